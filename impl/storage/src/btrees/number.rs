//! Python's numbers: whole ones of any size, and floating-point ones, compared exactly and added as Python adds them.

use std::borrow::Cow;
use std::cmp::Ordering;

use vellum_pickle::{Value, View};

/// A number.
#[derive(Clone, Debug)]
pub(super) enum Number<'r> {
    /// In two's complement, little-endian, as short as can be, and at least one byte.
    Whole(Cow<'r, [u8]>),
    Float(f64),
}

impl<'r> Number<'r> {
    /// The number that this is. `True` is 1.
    pub(super) fn of(view: &View<'r>) -> Option<Number<'r>> {
        Some(match view {
            View::Bool(value) => Number::Whole(Cow::Owned(vec![u8::from(*value)])),
            View::Int(number) => Number::Whole(Cow::Owned(shortest(number.to_le_bytes().to_vec()))),
            View::BigInt(bytes) => Number::Whole(bytes.clone()),
            View::Float(number) => Number::Float(*number),
            _ => return None,
        })
    }

    /// The order of two numbers, exactly; none if one of them is no number.
    pub(super) fn compare(&self, other: &Number<'_>) -> Option<Ordering> {
        match (self, other) {
            (Number::Whole(one), Number::Whole(other)) => Some(order(one, other)),
            (Number::Float(one), Number::Float(other)) => one.partial_cmp(other),
            (Number::Whole(one), Number::Float(other)) => order_with_float(one, *other),
            (Number::Float(_), Number::Whole(_)) => other.compare(self).map(Ordering::reverse),
        }
    }

    /// `self + other`, or `self - other`. None if a whole number is too large for the floating-point number beside it.
    pub(super) fn plus(&self, other: &Number<'_>, negate: bool) -> Option<Number<'static>> {
        if let (Number::Whole(one), Number::Whole(other)) = (self, other) {
            return Some(Number::Whole(Cow::Owned(add(one, other, negate))));
        }
        let (one, other) = (self.as_float()?, other.as_float()?);
        Some(Number::Float(if negate { one - other } else { one + other }))
    }

    pub(super) fn into_value(self) -> Value {
        match self {
            Number::Float(number) => Value::Float(number),
            Number::Whole(bytes) if bytes.len() <= 8 => Value::Int(small(&bytes) as i64),
            Number::Whole(bytes) => Value::BigInt(bytes.into_owned()),
        }
    }

    /// As a floating-point number, rounded to the nearest. Beyond 128 bits it is refused, which Python does beyond
    /// 1024.
    fn as_float(&self) -> Option<f64> {
        match self {
            Number::Float(number) => Some(*number),
            Number::Whole(bytes) if bytes.len() <= 16 => Some(small(bytes) as f64),
            Number::Whole(_) => None,
        }
    }
}

fn is_negative(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|top| top & 0x80 != 0)
}

/// At most 16 bytes as a number.
fn small(bytes: &[u8]) -> i128 {
    let mut wide = [if is_negative(bytes) { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(wide)
}

fn shortest(mut bytes: Vec<u8>) -> Vec<u8> {
    while let [.., before, top] = bytes[..] {
        if top != if before & 0x80 != 0 { 0xff } else { 0 } {
            break;
        }
        bytes.pop();
    }
    bytes
}

/// The order of two whole numbers. Of those with the same sign, the longer one is further from zero, and among those of
/// the same length two's complement counts upwards.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    match (is_negative(one), is_negative(other)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (negative, _) => match one.len().cmp(&other.len()) {
            Ordering::Equal => one.iter().rev().cmp(other.iter().rev()),
            longer if negative => longer.reverse(),
            longer => longer,
        },
    }
}

fn order_with_float(one: &[u8], other: f64) -> Option<Ordering> {
    if other.is_nan() {
        return None;
    }
    if other.is_infinite() {
        return Some(if other > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = order(one, &truncated(other));
    // Cut off was what makes a positive number greater, and a negative one less.
    let rest = other.fract();
    Some(whole.then(0.0_f64.partial_cmp(&rest)?))
}

/// A floating-point number without its fraction.
fn truncated(number: f64) -> Vec<u8> {
    let bits = number.abs().to_bits();
    let (exponent, fraction) = ((bits >> 52) as usize, bits & ((1 << 52) - 1));
    // The number is `mantissa * 2^(exponent - 1075)`.
    let mantissa = u128::from(fraction | 1 << 52);
    let mut bytes = Vec::new();
    match exponent.checked_sub(1075) {
        None if exponent < 1023 => bytes.push(0),
        None => bytes.extend((mantissa >> (1075 - exponent)).to_le_bytes()),
        Some(shift) => {
            bytes.resize(shift / 8, 0);
            bytes.extend((mantissa << (shift % 8)).to_le_bytes());
        }
    }
    bytes.push(0);
    if number < 0.0 { add(&[0], &bytes, true) } else { shortest(bytes) }
}

/// `one + other`, or `one - other`.
fn add(one: &[u8], other: &[u8], negate: bool) -> Vec<u8> {
    let sign = |bytes: &[u8]| if is_negative(bytes) { 0xff } else { 0 };
    let flip = if negate { 0xff } else { 0 };
    let mut carry = u16::from(negate);
    let mut sum = Vec::new();
    for at in 0..=one.len().max(other.len()) {
        let digit = |bytes: &[u8]| bytes.get(at).copied().unwrap_or_else(|| sign(bytes));
        carry += u16::from(digit(one)) + u16::from(digit(other) ^ flip);
        sum.push(carry as u8);
        carry >>= 8;
    }
    shortest(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(number: i128) -> Number<'static> {
        Number::Whole(Cow::Owned(shortest(number.to_le_bytes().to_vec())))
    }

    #[test]
    fn whole_numbers_are_ordered_and_added_as_they_should_be() {
        let edges = [0, 1, -1, 127, 128, -128, -129, 255, 256, 32_767, -32_768, 1 << 63, -(1 << 63), (1 << 64) + 5];
        for one in edges {
            for other in edges {
                assert_eq!(whole(one).compare(&whole(other)), Some(one.cmp(&other)), "{one} and {other}");
                for (negate, wanted) in [(false, one + other), (true, one - other)] {
                    let sum = whole(one).plus(&whole(other), negate).map(Number::into_value);
                    assert_eq!(sum, Some(whole(wanted).into_value()), "{one} and {other}");
                }
            }
        }
    }

    #[test]
    fn whole_numbers_and_floats_are_compared_without_rounding() {
        use Ordering::{Equal, Greater, Less};
        let big = 1_i128 << 60;
        for (one, other, wanted) in [
            (1, 1.0, Some(Equal)),
            (1, 1.5, Some(Less)),
            (-1, -1.5, Some(Greater)),
            (0, -0.0, Some(Equal)),
            (0, 5e-324, Some(Less)),
            (0, -0.25, Some(Greater)),
            (big, big as f64, Some(Equal)),
            (big + 1, big as f64, Some(Greater)),
            (big - 1, big as f64, Some(Less)),
            (-big - 1, -(big as f64), Some(Less)),
            (1 << 100, 1e300, Some(Less)),
            (1 << 100, -1e300, Some(Greater)),
            (1 << 100, (2.0_f64).powi(100), Some(Equal)),
            (-(1 << 100), -(2.0_f64).powi(100), Some(Equal)),
            (1 << 100, f64::INFINITY, Some(Less)),
            (1 << 100, f64::NEG_INFINITY, Some(Greater)),
            (5, f64::NAN, None),
        ] {
            assert_eq!(whole(one).compare(&Number::Float(other)), wanted, "{one} and {other}");
            assert_eq!(Number::Float(other).compare(&whole(one)), wanted.map(Ordering::reverse), "{other} and {one}");
        }
    }
}
