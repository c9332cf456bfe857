//! A collection's state, into items and back.
//!
//! ```text
//!   bucket     ((key, value, key, value, ...), next)     next only if there is a next bucket
//!   set        ((key, key, ...), next)
//!   tree       None if it is empty; ((state of a bucket,),) if that is all; else something larger
//! ```
//!
//! Numbers and byte strings of fixed size are read and written in their own form: `True` as a key among whole
//! numbers comes back as 1, and a value of 0.1 that is kept in 32 bits as 0.10000000149011612.
//!
//! The implementation in Python does not do so. It is rarely met under its own name, and then such items are refused.

use std::borrow::Cow;

use vellum_pickle::{Part, Piece, Reference, Value, View};

use super::family::{Content, Items, Kind};
use super::merge::merge;
use super::order::Comparer;

/// A key or a value.
#[derive(Clone, Debug)]
pub(super) enum Datum<'r> {
    Int(i128),
    Float(f32),
    Fixed(Cow<'r, [u8]>, Part<'r>),
    Any(Part<'r>),
}

/// A key, and its value if there are values.
#[derive(Clone, Debug)]
pub(super) struct Item<'r> {
    pub(super) key: Datum<'r>,
    pub(super) value: Option<Datum<'r>>,
}

/// A bucket or set.
#[derive(Debug, Default)]
pub(super) struct Bucket<'r> {
    pub(super) items: Vec<Item<'r>>,
    pub(super) next: Option<Part<'r>>,
}

/// The state with both changes in it. The states are the ancestor's, the committed one and the new one.
pub(super) fn resolve<'r>(class: Items, states: [Part<'r>; 3], comparer: &mut Comparer) -> Option<Piece<'r>> {
    let is_tree = matches!(class.kind, Kind::Tree | Kind::TreeSet);
    let read = |state| match state {
        state if is_tree => Bucket::of_tree(&class, state),
        state => Bucket::of_state(&class, state),
    };
    let [ancestor, committed, new] = states;
    let (ancestor, committed, new) = (read(ancestor)?, read(committed)?, read(new)?);
    if !ancestor.is_followed_like(&committed) || !ancestor.is_followed_like(&new) {
        return None;
    }
    let items = merge([&ancestor.items, &committed.items, &new.items], class.in_python, comparer)?;
    let state = Bucket { items, next: ancestor.next }.into_state();
    Some(if is_tree { Piece::Tuple(vec![Piece::Tuple(vec![state])]) } else { state })
}

impl<'r> Bucket<'r> {
    fn of_tree(class: &Items, state: Part<'r>) -> Option<Self> {
        if let View::None = state.view() {
            return Some(Bucket::default());
        }
        // A tuple of two is a tree whose buckets are objects.
        let bucket = only(only(state)?)?;
        match bucket.view() {
            View::Tuple(_) => Bucket::of_state(class, bucket),
            _ => None,
        }
    }

    pub(super) fn of_state(class: &Items, state: Part<'r>) -> Option<Self> {
        let state = match state.view() {
            View::None => return Some(Bucket::default()),
            View::Tuple(state) if state.len() <= 2 => state,
            _ => return None,
        };
        let View::Tuple(parts) = state.get(0)?.view() else { return None };
        let mut parts = parts.iter();
        let mut items = Vec::new();
        while let Some(key) = parts.next() {
            let value = match class.kind {
                Kind::Set | Kind::TreeSet => None,
                Kind::Bucket | Kind::Tree => match parts.next() {
                    Some(value) => Some(Datum::read(class, class.value, value)?),
                    // A key without a value is no item; to Python it is an error.
                    None if class.in_python => return None,
                    None => break,
                },
            };
            items.push(Item { key: Datum::read(class, class.key, key)?, value });
        }
        Some(Bucket { items, next: state.get(1) })
    }

    /// Is the next bucket the same one? ZODB makes one object of a reference wherever it meets it, and compares those.
    fn is_followed_like(&self, other: &Bucket<'r>) -> bool {
        match (self.next, other.next) {
            (None, None) => true,
            (Some(one), Some(other)) => match (one.view(), other.view()) {
                (View::None, View::None) => true,
                (View::Reference(Reference::Bad { .. }), _) => false,
                _ => one.is_same_reference(other),
            },
            _ => false,
        }
    }

    fn into_state(self) -> Piece<'r> {
        let data = self.items.into_iter().flat_map(|item| [Some(item.key), item.value]).flatten();
        let items = Piece::Tuple(data.map(Datum::into_piece).collect());
        Piece::Tuple(std::iter::once(items).chain(self.next.map(Piece::Part)).collect())
    }
}

/// The item of a tuple of one.
pub(super) fn only(part: Part<'_>) -> Option<Part<'_>> {
    match part.view() {
        View::Tuple(items) if items.len() == 1 => items.get(0),
        _ => None,
    }
}

impl<'r> Datum<'r> {
    fn read(class: &Items, content: Content, part: Part<'r>) -> Option<Self> {
        let datum = Datum::read_as(content, part)?;
        let changes = class.in_python
            && match datum {
                Datum::Int(_) => matches!(part.view(), View::Bool(_)),
                Datum::Float(narrow) => !matches!(part.view(), View::Float(wide) if wide == f64::from(narrow)),
                Datum::Fixed(..) | Datum::Any(_) => false,
            };
        (!changes).then_some(datum)
    }

    pub(super) fn read_as(content: Content, part: Part<'r>) -> Option<Self> {
        Some(match content {
            Content::Any => Datum::Any(part),
            Content::Int(least, most) => Datum::Int(whole(part).filter(|number| (least..=most).contains(number))?),
            Content::Float => match part.view() {
                View::Float(number) => Datum::Float(number as f32),
                _ => Datum::Float(i64::try_from(whole(part)?).ok()? as f32),
            },
            Content::Fixed(length) => match part.view() {
                View::Bytes(bytes) | View::Native(bytes) if bytes.len() == length => Datum::Fixed(bytes, part),
                _ => return None,
            },
        })
    }

    pub(super) fn into_piece(self) -> Piece<'r> {
        match self {
            Datum::Int(number) => Piece::Value(match i64::try_from(number) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::BigInt(number.to_le_bytes().to_vec()),
            }),
            Datum::Float(number) => Piece::Value(Value::Float(number.into())),
            Datum::Fixed(_, part) | Datum::Any(part) => Piece::Part(part),
        }
    }
}

/// A whole number, of which `True` is one, if it is not larger than any that a collection can keep.
fn whole(part: Part<'_>) -> Option<i128> {
    match part.view() {
        View::Bool(value) => Some(value.into()),
        View::Int(number) => Some(number.into()),
        View::BigInt(bytes) if bytes.len() <= 16 => {
            let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 16];
            wide[..bytes.len()].copy_from_slice(&bytes);
            Some(i128::from_le_bytes(wide))
        }
        _ => None,
    }
}
