//! Comparing as Python compares, as far as that runs no code of a class.
//!
//! Two things can be asked in Python: is one less than the other, and are they equal? Not every pair has an answer. `1
//! < 'one'` is an error, while `1 == 'one'` is merely false; and with a reference on one side, both are errors, unless
//! the other side is a reference to the same object. The object that a reference means is in the database, its class
//! may have an order of its own, which cannot be asked here.
//!
//! A collection asks whether one is less, and if not, whether they are equal; otherwise it is greater. So a number
//! that is no number (NaN) is greater than everything. Before all that, `None` is less than everything else.
//!
//! All answers are `Option`s here, and none means that Python would raise an error, or run code.

use std::cmp::Ordering;

use vellum_pickle::{Part, Parts, Reference, View};

use super::number::Number;
use super::state::{Datum, Item};

/// Python's own limit is some hundreds.
const DEPTH_MAX: usize = 64;

/// The cost of looking at a part, besides its bytes.
const LOOK: usize = 16;

/// Compares, up to a limit: a small record can make a shared value be compared again and again.
#[derive(Debug)]
pub(super) struct Comparer {
    left: usize,
}

impl Comparer {
    /// Enough for any records that are made of so many bytes and not made to be a nuisance.
    pub(super) fn new(size: usize) -> Comparer {
        Comparer { left: size.saturating_mul(64).saturating_add(64 << 20) }
    }

    /// As long as this many bytes were looked at, about.
    pub(super) fn of_bytes(left: usize) -> Comparer {
        Comparer { left }
    }

    /// The order of two keys or values of one collection.
    pub(super) fn data(&mut self, one: &Datum<'_>, other: &Datum<'_>) -> Option<Ordering> {
        Some(match (one, other) {
            (Datum::Int(one), Datum::Int(other)) => one.cmp(other),
            // C compares these: a number that is neither less nor greater is equal, and so is NaN the same as
            // everything.
            (Datum::Float(one), Datum::Float(other)) => one.partial_cmp(other).unwrap_or(Ordering::Equal),
            (Datum::Fixed(one, _), Datum::Fixed(other, _)) => one.cmp(other),
            (Datum::Any(one), Datum::Any(other)) => return self.any(*one, *other),
            _ => return None,
        })
    }

    /// Have two items of one key the same value? Without values, they have.
    pub(super) fn same_value(&mut self, one: &Item<'_>, other: &Item<'_>) -> Option<bool> {
        match (&one.value, &other.value) {
            (Some(one), Some(other)) => Some(self.data(one, other)? == Ordering::Equal),
            _ => Some(true),
        }
    }

    fn any(&mut self, one: Part<'_>, other: Part<'_>) -> Option<Ordering> {
        let views = (one.view(), other.view());
        self.spend(&views)?;
        Some(match views {
            (View::None, View::None) => Ordering::Equal,
            (View::None, _) => Ordering::Less,
            (_, View::None) => Ordering::Greater,
            _ if self.less(one, other, 0)? => Ordering::Less,
            _ if self.equal(one, other, 0)? => Ordering::Equal,
            _ => Ordering::Greater,
        })
    }

    /// `one < other`. Recursion goes no deeper than `DEPTH_MAX`.
    fn less(&mut self, one: Part<'_>, other: Part<'_>, depth: usize) -> Option<bool> {
        let views = (one.view(), other.view());
        self.spend(&views)?;
        match views {
            (View::Tuple(one), View::Tuple(other)) | (View::List(one), View::List(other)) => {
                match self.first_difference(one, other, depth)? {
                    Some((one, other)) => self.less(one, other, depth + 1),
                    None => Some(one.len() < other.len()),
                }
            }
            (View::Reference(_), View::Reference(_)) => {
                self.equal(one, other, depth).filter(|same| *same).map(|_| false)
            }
            (one, other) => match scalars(&one, &other)? {
                Scalars::Numbers(order) => Some(order == Some(Ordering::Less)),
                Scalars::Strings(order) => Some(order == Ordering::Less),
            },
        }
    }

    /// `one == other`.
    fn equal(&mut self, one: Part<'_>, other: Part<'_>, depth: usize) -> Option<bool> {
        let views = (one.view(), other.view());
        self.spend(&views)?;
        match &views {
            (View::Tuple(one), View::Tuple(other)) => {
                Some(self.first_difference(*one, *other, depth)?.is_none() && one.len() == other.len())
            }
            (View::List(one), View::List(other)) => {
                Some(one.len() == other.len() && self.first_difference(*one, *other, depth)?.is_none())
            }
            (View::Reference(a), View::Reference(b)) => {
                (one.is_same_reference(other) || is_same_object(a, b)).then_some(true)
            }
            (View::None, View::None) => Some(true),
            (a, b) => match scalars(a, b) {
                Some(Scalars::Numbers(order)) => Some(order == Some(Ordering::Equal)),
                Some(Scalars::Strings(order)) => Some(order == Ordering::Equal),
                None => is_of_another_type(a, b).then_some(false),
            },
        }
    }

    /// The first items at the same place that are not equal.
    fn first_difference<'r, 's>(
        &mut self,
        one: Parts<'r>,
        other: Parts<'s>,
        depth: usize,
    ) -> Option<Option<(Part<'r>, Part<'s>)>> {
        if depth >= DEPTH_MAX {
            return None;
        }
        for (one, other) in one.iter().zip(other.iter()) {
            if !self.equal(one, other, depth + 1)? {
                return Some(Some((one, other)));
            }
        }
        Some(None)
    }

    fn spend(&mut self, (one, other): &(View<'_>, View<'_>)) -> Option<()> {
        self.left = self.left.checked_sub(cost(one).saturating_add(cost(other)))?;
        Some(())
    }
}

/// The cost of looking at a part and comparing it.
fn cost(view: &View<'_>) -> usize {
    let more = match view {
        View::Text(bytes) | View::Bytes(bytes) | View::Native(bytes) => bytes.len(),
        // It may have been written in decimal, and reading that takes quadratic time, up to a limit.
        View::BigInt(bytes) => bytes.len().saturating_add(bytes.len().min(300).pow(2)),
        View::Dict(pairs) => pairs.len() * LOOK,
        View::Reference(
            Reference::Strong { class: Some(class), .. } | Reference::Foreign { class: Some(class), .. },
        ) => class.module.len() + class.name.len(),
        _ => 0,
    };
    more.saturating_add(LOOK)
}

enum Scalars {
    /// There is no order if one of them is no number.
    Numbers(Option<Ordering>),
    Strings(Ordering),
}

/// The order of two numbers, or of two strings of one type, as Python sees it. None if there is none; a number that is
/// no number (NaN) has none, but can be compared: `Some(None)`.
pub fn order_of_scalars(one: &View<'_>, other: &View<'_>) -> Option<Option<Ordering>> {
    Some(match scalars(one, other)? {
        Scalars::Numbers(order) => order,
        Scalars::Strings(order) => Some(order),
    })
}

/// The order of two numbers, or of two strings of one type.
fn scalars(one: &View<'_>, other: &View<'_>) -> Option<Scalars> {
    let order = match (one, other) {
        (View::Text(one), View::Text(other))
        | (View::Bytes(one), View::Bytes(other))
        | (View::Native(one), View::Native(other)) => one.cmp(other),
        // Both Pythons take the `str` of Python 2 for text here, if it is ASCII.
        (View::Native(one), View::Text(other)) if one.is_ascii() => one.cmp(other),
        (View::Text(one), View::Native(other)) if other.is_ascii() => one.cmp(other),
        _ => return Some(Scalars::Numbers(Number::of(one)?.compare(&Number::of(other)?))),
    };
    Some(Scalars::Strings(order))
}

/// Are these of types between which `==` is false, without asking anybody?
fn is_of_another_type(one: &View<'_>, other: &View<'_>) -> bool {
    let kind = |view: &View<'_>| match view {
        View::None => Some(0),
        View::Bool(_) | View::Int(_) | View::BigInt(_) | View::Float(_) => Some(1),
        View::Text(_) => Some(2),
        View::Bytes(_) => Some(3),
        View::Tuple(_) => Some(4),
        View::List(_) => Some(5),
        // The answer depends on the version of Python.
        View::Native(_) => None,
        View::Dict(_) | View::Class(_) | View::Reference(_) | View::Other => None,
    };
    match (kind(one), kind(other)) {
        (Some(one), Some(other)) => one != other,
        _ => false,
    }
}

/// Are these references to one object that say so? A weak one does not.
fn is_same_object(one: &Reference<'_>, other: &Reference<'_>) -> bool {
    match (one, other) {
        (Reference::Strong { oid: one, .. }, Reference::Strong { oid: other, .. }) => one == other,
        (
            Reference::Foreign { oid: one, database: one_database, .. },
            Reference::Foreign { oid: other, database: other_database, .. },
        ) => one == other && one_database == other_database,
        _ => false,
    }
}
