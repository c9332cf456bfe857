//! Union, intersection and difference of trees and leaves.
//!
//! The results are leaves, which are not stored: [`Set`](super::Set) and [`Bucket`](super::Bucket). Put one into an
//! object with [`Connection::make`](crate::Connection::make). The operands are walked at once, a leaf at a time.

use std::cmp::Ordering;
use std::fmt;

use super::content::Key;
use super::family::{Family, Keys, Shape};
use super::leaf::{Leaf, compare};
use super::node::Node;
use super::{Set, number::Number};
use crate::Ref;
use crate::error::{Error, Result, Trouble};

/// Keys, with values perhaps, in their order.
pub type Sorted<'s, S> = Box<dyn Iterator<Item = Result<(<S as Shape>::Key, <S as Shape>::Value)>> + 's>;

/// An operand: a tree, or a leaf as an object or as a state.
pub trait Items {
    /// Its shape.
    type Shape: Shape;

    /// Its keys and values.
    ///
    /// # Errors
    ///
    /// Those of reading objects.
    fn sorted(&self) -> Result<Sorted<'_, Self::Shape>>;
}

impl<S: Shape> Items for Ref<Node<S>> {
    type Shape = S;

    fn sorted(&self) -> Result<Sorted<'_, S>> {
        Ok(Box::new(self.items()))
    }
}

impl<S: Shape> Items for Leaf<S> {
    type Shape = S;

    fn sorted(&self) -> Result<Sorted<'_, S>> {
        Ok(Box::new(self.iter().map(|(key, value)| Ok((key.clone(), value.clone())))))
    }
}

impl<S: Shape> Items for Ref<Leaf<S>> {
    type Shape = S;

    fn sorted(&self) -> Result<Sorted<'_, S>> {
        let leaf = Leaf::clone(&*self.view()?);
        let items = leaf.iter().map(|(key, value)| Ok((key.clone(), value.clone()))).collect::<Vec<_>>();
        Ok(Box::new(items.into_iter()))
    }
}

type ValueOf<I> = <<I as Items>::Shape as Shape>::Value;

/// Walks two operands at once. `each` gets every key with the values of those that have it.
fn merge<K: Key, A: Items<Shape: Shape<Key = K>>, B: Items<Shape: Shape<Key = K>>>(
    one: &A,
    other: &B,
    each: &mut dyn FnMut(K, Option<ValueOf<A>>, Option<ValueOf<B>>),
) -> Result<()> {
    let (mut one, mut other) = (one.sorted()?, other.sorted()?);
    let (mut left, mut right) = (one.next().transpose()?, other.next().transpose()?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => compare(one, other).map_err(|trouble| key_error::<A>(trouble))?,
        };
        let taken = if order.is_le() { left.take() } else { None };
        let other_taken = if order.is_ge() { right.take() } else { None };
        if taken.is_some() {
            left = one.next().transpose()?;
        }
        if other_taken.is_some() {
            right = other.next().transpose()?;
        }
        match (taken, other_taken) {
            (Some((key, value)), other) => each(key, Some(value), other.map(|(_, value)| value)),
            (None, Some((key, value))) => each(key, None, Some(value)),
            (None, None) => {}
        }
    }
}

fn key_error<A: Items>(trouble: Trouble) -> Error {
    let class = super::family::class_name(<A::Shape as Shape>::LEAF);
    Error::Key { tree: None, class: Box::new(class), trouble }
}

fn set<F: Family>(keys: Vec<F::Key>) -> Set<F> {
    let values = vec![(); keys.len()];
    Leaf::sorted(keys, values)
}

/// The keys that at least one of two operands has.
///
/// # Errors
///
/// Those of reading the operands; [`Error::Key`] if their keys have no order with each other.
pub fn union<F: Family>(
    one: &impl Items<Shape: Shape<Key = F::Key>>,
    other: &impl Items<Shape: Shape<Key = F::Key>>,
) -> Result<Set<F>> {
    let mut keys = Vec::new();
    merge(one, other, &mut |key, _, _| keys.push(key))?;
    Ok(set(keys))
}

/// The keys that both operands have.
///
/// # Errors
///
/// As [`union`].
pub fn intersection<F: Family>(
    one: &impl Items<Shape: Shape<Key = F::Key>>,
    other: &impl Items<Shape: Shape<Key = F::Key>>,
) -> Result<Set<F>> {
    let mut keys = Vec::new();
    merge(one, other, &mut |key, left, right| {
        if left.is_some() && right.is_some() {
            keys.push(key);
        }
    })?;
    Ok(set(keys))
}

/// The keys of the first operand that the other one does not have, with their values if it is a mapping.
///
/// # Errors
///
/// As [`union`].
pub fn difference<A: Items>(
    one: &A,
    other: &impl Items<Shape: Shape<Key = <A::Shape as Shape>::Key>>,
) -> Result<Leaf<A::Shape>> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    merge(one, other, &mut |key, left, right| {
        if let (Some(value), None) = (left, right) {
            keys.push(key);
            values.push(value);
        }
    })?;
    Ok(Leaf::sorted(keys, values))
}

/// The keys of all operands.
///
/// # Errors
///
/// As [`union`].
pub fn multiunion<F: Family<Key: Ord>>(operands: &[&dyn Items<Shape = Keys<F>>]) -> Result<Set<F>> {
    let mut keys = Vec::new();
    for operand in operands {
        for item in operand.sorted()? {
            keys.push(item?.0);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(set(keys))
}

/// The value that an item has in a weighted operation: 1 in a set.
pub trait Weighed<N> {
    /// The value.
    fn weight(self) -> N;
}

impl<N: Number> Weighed<N> for N {
    fn weight(self) -> N {
        self
    }
}

impl<N: Number> Weighed<N> for () {
    fn weight(self) -> N {
        N::ONE
    }
}

/// The result of a weighted operation: a mapping, unless both operands are sets.
pub enum Weighted<F: Family> {
    /// The keys with the sums of their weighted values.
    Bucket(super::Bucket<F>),
    /// The keys alone.
    Set(Set<F>),
}

impl<F: Family> fmt::Debug for Weighted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Weighted::Bucket(bucket) => bucket.fmt(f),
            Weighted::Set(set) => set.fmt(f),
        }
    }
}

fn weigh<F, A, B>(one: &A, weights: (F::Value, F::Value), other: &B, all: bool) -> Result<Weighted<F>>
where
    F: Family<Value: Number>,
    A: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
    B: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
{
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    merge(one, other, &mut |key, left, right| {
        if !all && (left.is_none() || right.is_none()) {
            return;
        }
        let left = left.map(|value| value.weight().times(weights.0));
        let right = right.map(|value| value.weight().times(weights.1));
        keys.push(key);
        values.extend(match (left, right) {
            (Some(left), Some(right)) => Some(left.plus(right)),
            (left, right) => left.or(right),
        });
    })?;
    Ok(match <A::Shape as Shape>::IS_MAPPING || <B::Shape as Shape>::IS_MAPPING {
        true => Weighted::Bucket(Leaf::sorted(keys, values)),
        false => Weighted::Set(set(keys)),
    })
}

/// The keys of both operands. The value of a key is the sum of its values, each times the weight of its operand; in a
/// set it is 1. Whole numbers wrap around, as in the BTrees package. Returns the weight of the result, 1, and the
/// result.
///
/// # Errors
///
/// As [`union`].
pub fn weighted_union<F, A, B>(one: &A, other: &B, weights: (F::Value, F::Value)) -> Result<(F::Value, Weighted<F>)>
where
    F: Family<Value: Number>,
    A: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
    B: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
{
    Ok((F::Value::ONE, weigh(one, weights, other, true)?))
}

/// The keys that both operands have, with values as in [`weighted_union`]. The weight of the result is 1, and the sum
/// of the weights if both operands are sets.
///
/// # Errors
///
/// As [`union`].
pub fn weighted_intersection<F, A, B>(
    one: &A,
    other: &B,
    weights: (F::Value, F::Value),
) -> Result<(F::Value, Weighted<F>)>
where
    F: Family<Value: Number>,
    A: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
    B: Items<Shape: Shape<Key = F::Key, Value: Weighed<F::Value>>>,
{
    let result = weigh(one, weights, other, false)?;
    let weight = match result {
        Weighted::Bucket(_) => F::Value::ONE,
        Weighted::Set(_) => weights.0.plus(weights.1),
    };
    Ok((weight, result))
}
