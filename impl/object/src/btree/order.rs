//! The order of values as keys: that of Python, as far as it runs no code of a class.
//!
//! `None` is less than everything, but only as a whole key. Numbers of all kinds are compared with each other, text
//! with text, bytes with bytes, tuples and lists item by item. Everything else has no order here.

use std::borrow::Cow;
use std::cmp::Ordering;

use vellum_pickle::View;
use vellum_storage::order_of_scalars;

use crate::error::Trouble;
use crate::value::Value;

/// A tuple of a key may be so deep. Below it, Python compares by recursion, too.
const DEPTH_MAX: usize = 64;

/// The order of two keys. None if there is none.
pub(crate) fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
        (Value::None, Value::None) => Some(Ordering::Equal),
        (Value::None, _) => Some(Ordering::Less),
        (_, Value::None) => Some(Ordering::Greater),
        (one, other) => within(one, other, DEPTH_MAX),
    }
}

fn within(one: &Value, other: &Value, depth: usize) -> Option<Ordering> {
    let depth = depth.checked_sub(1)?;
    match (one, other) {
        (Value::Tuple(one), Value::Tuple(other)) | (Value::List(one), Value::List(other)) => {
            for (one, other) in one.iter().zip(other) {
                if !is_equal(one, other, depth)? {
                    return within(one, other, depth);
                }
            }
            Some(one.len().cmp(&other.len()))
        }
        (one, other) => order_of_scalars(&view(one)?, &view(other)?)?,
    }
}

/// Whether two parts of keys are equal. Python asks this first, and for any two types.
fn is_equal(one: &Value, other: &Value, depth: usize) -> Option<bool> {
    let depth = depth.checked_sub(1)?;
    match (one, other) {
        (Value::None, Value::None) => Some(true),
        (Value::Tuple(one), Value::Tuple(other)) | (Value::List(one), Value::List(other)) => {
            if one.len() != other.len() {
                return Some(false);
            }
            let mut pairs = one.iter().zip(other);
            pairs.try_fold(true, |so_far, (one, other)| Some(so_far && is_equal(one, other, depth)?))
        }
        (one, other) => match view(one).zip(view(other)).and_then(|(one, other)| order_of_scalars(&one, &other)) {
            Some(order) => Some(order == Some(Ordering::Equal)),
            // Of different types. Then there is no order either, and the caller finds that out.
            None => Some(false),
        },
    }
}

fn view(value: &Value) -> Option<View<'_>> {
    Some(match value {
        Value::Bool(value) => View::Bool(*value),
        Value::Int(number) => View::Int(*number),
        Value::BigInt(bytes) => View::BigInt(Cow::Borrowed(bytes)),
        Value::Float(number) => View::Float(*number),
        Value::Text(text) => View::Text(Cow::Borrowed(text.as_bytes())),
        Value::OddText(bytes) => View::Text(Cow::Borrowed(bytes)),
        Value::Bytes(bytes) | Value::ByteArray(bytes) => View::Bytes(Cow::Borrowed(bytes)),
        Value::Native(bytes) => View::Native(Cow::Borrowed(bytes)),
        _ => return None,
    })
}

/// Refuses a key that has no order, even with itself.
pub(super) fn check(key: &Value) -> Result<(), Trouble> {
    match order(key, key) {
        Some(Ordering::Equal) => Ok(()),
        _ => Err(Trouble::Unordered { one: key.kind(), other: key.kind() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(items: impl IntoIterator<Item = Value>) -> Value {
        Value::Tuple(items.into_iter().collect())
    }

    #[test]
    fn keys_are_ordered_as_python_orders_them() {
        use Ordering::{Equal, Greater, Less};
        let text = |text: &str| Value::from(text);
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.into());
        for (one, other, wanted) in [
            (Value::None, Value::None, Some(Equal)),
            (Value::None, Value::from(-5), Some(Less)),
            (text(""), Value::None, Some(Greater)),
            (Value::Bool(true), Value::from(1), Some(Equal)),
            (Value::Float(1.5), Value::from(1), Some(Greater)),
            (Value::Float(f64::NAN), Value::from(1), None),
            (text("a"), bytes(b"a"), None),
            (text("\u{ffff}"), text("\u{10000}"), Some(Less)),
            (tuple([Value::None, Value::from(1)]), tuple([Value::None, Value::from(2)]), Some(Less)),
            (tuple([Value::None]), tuple([Value::from(2)]), None),
            (tuple([text("a"), text("b")]), tuple([text("a")]), Some(Greater)),
            (tuple([text("a"), bytes(b"b")]), tuple([text("b"), Value::from(1)]), Some(Less)),
            (tuple([Value::Float(f64::NAN)]), tuple([Value::Float(f64::NAN)]), None),
            (tuple([tuple([Value::from(1)])]), tuple([tuple([Value::from(1), Value::from(0)])]), Some(Less)),
            (Value::Dict(vec![]), Value::Dict(vec![]), None),
        ] {
            assert_eq!(order(&one, &other), wanted, "{one:?} and {other:?}");
            assert_eq!(order(&other, &one), wanted.map(Ordering::reverse), "{other:?} and {one:?}");
        }
        let mut deep = Value::from(1);
        for _ in 0..80 {
            deep = tuple([deep]);
        }
        assert!(check(&deep).is_err());
        assert!(check(&tuple([Value::from(1), Value::None])).is_ok());
    }
}
