//! Keys in order, and between the separators above them.

use std::cmp::Ordering;

use vellum_pickle::{Piece, Record, RenderOptions, Value, View, encode_record};

use super::rule::BTreeRule;
use crate::Bytes;
use crate::btrees::family::Items;
use crate::btrees::order::Comparer;
use crate::btrees::state::Datum;

/// How much of a key is shown.
const KEY_MAX: usize = 60;

/// Where the keys below a node begin or end.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    /// Anywhere.
    Open,
    /// At this key, which is the only item of a record's state.
    Key(Bytes),
    /// At a key that cannot be carried along, and not be compared either: an object.
    Untold,
}

impl Bound {
    /// The separators of a node, whose record has so many bytes. A key that is shared takes its room here again and
    /// again, so all of them together have a limit.
    pub(super) fn all(separators: &[Datum<'_>], bytes: usize) -> Vec<Bound> {
        let mut left = bytes.saturating_mul(16).saturating_add(64 << 10);
        let bound = |separator: &Datum<'_>| {
            if left == 0 {
                return Bound::Untold;
            }
            let key = Piece::Tuple(vec![separator.clone().into_piece()]);
            match encode_record(&Piece::Value(Value::None), &key, 3) {
                Ok(key) => {
                    left = left.saturating_sub(key.len());
                    Bound::Key(key.into())
                }
                Err(_) => Bound::Untold,
            }
        };
        separators.iter().map(bound).collect()
    }

    fn len(&self) -> usize {
        match self {
            Bound::Key(key) => key.len(),
            Bound::Open | Bound::Untold => 0,
        }
    }

    /// Has `look` compare with the key, if there is one. None if it cannot be told which that is.
    fn look<T: Default>(&self, class: &Items, look: impl FnOnce(&Datum<'_>) -> T) -> Option<T> {
        let key = match self {
            Bound::Open => return Some(T::default()),
            Bound::Untold => return None,
            Bound::Key(key) => Record::read(key).ok()?,
        };
        let View::Tuple(items) = key.state().view() else { return None };
        let key = Datum::read_as(class.key, items.get(0)?)?;
        Some(look(&key))
    }
}

/// The faults of a node's keys.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) broken: Vec<BTreeRule>,
    /// There may be more: some keys cannot be compared.
    pub(super) is_untold: bool,
}

/// Looks at all keys of a node, whose record has so many bytes.
pub(super) fn check(class: &Items, keys: &[Datum<'_>], low: &Bound, high: &Bound, bytes: usize) -> Found {
    let bytes = bytes.saturating_add(low.len()).saturating_add(high.len());
    // Each key is compared four times, and a shared value is compared again.
    let mut comparer = Comparer::of_bytes(bytes.saturating_mul(64).saturating_add(1 << 20));
    let mut order = Wrong::default();
    for pair in keys.windows(2) {
        order.add(comparer.data(&pair[0], &pair[1]), Ordering::is_ge, || [shown(&pair[0]), shown(&pair[1])]);
        if order.is_untold {
            break;
        }
    }
    let is_in_order = order.first.is_none() && !order.is_untold;
    let below = low.look(class, |low| outside(&mut comparer, keys.iter(), low, Ordering::is_lt, is_in_order));
    let above = high.look(class, |high| outside(&mut comparer, keys.iter().rev(), high, Ordering::is_ge, is_in_order));
    let rules = [
        order.rule(|key, then, count| BTreeRule::Order { key, then, count }),
        below.as_ref().and_then(|below| below.rule(|key, bound, count| BTreeRule::Below { key, bound, count })),
        above.as_ref().and_then(|above| above.rule(|key, bound, count| BTreeRule::Above { key, bound, count })),
    ];
    let is_untold = order.is_untold || [&below, &above].iter().any(|side| side.as_ref().is_none_or(|s| s.is_untold));
    Found { broken: rules.into_iter().flatten().collect(), is_untold }
}

/// Pairs of keys in the wrong order.
#[derive(Default)]
struct Wrong {
    first: Option<[String; 2]>,
    count: u64,
    is_untold: bool,
}

impl Wrong {
    fn add(
        &mut self,
        order: Option<Ordering>,
        is_wrong: fn(Ordering) -> bool,
        pair: impl FnOnce() -> [String; 2],
    ) -> bool {
        let is_wrong = match order {
            None => {
                self.is_untold = true;
                return false;
            }
            Some(order) => is_wrong(order),
        };
        if is_wrong {
            self.first.get_or_insert_with(pair);
            self.count += 1;
        }
        is_wrong
    }

    fn rule(&self, rule: impl FnOnce(String, String, u64) -> BTreeRule) -> Option<BTreeRule> {
        let [key, other] = self.first.clone()?;
        Some(rule(key, other, self.count))
    }
}

/// The keys that are beyond a bound. In a list that is in order and begins with those that are nearest to the bound,
/// these come first.
fn outside<'k, 'r: 'k>(
    comparer: &mut Comparer,
    keys: impl Iterator<Item = &'k Datum<'r>>,
    bound: &Datum<'_>,
    is_outside: fn(Ordering) -> bool,
    is_in_order: bool,
) -> Wrong {
    let mut wrong = Wrong::default();
    for key in keys {
        let is_wrong = wrong.add(comparer.data(key, bound), is_outside, || [shown(key), shown(bound)]);
        if wrong.is_untold || (is_in_order && !is_wrong) {
            break;
        }
    }
    wrong
}

fn shown(key: &Datum<'_>) -> String {
    match key {
        Datum::Int(number) => number.to_string(),
        Datum::Float(number) => number.to_string(),
        Datum::Fixed(_, part) | Datum::Any(part) => {
            part.render(&RenderOptions { bytes_max: KEY_MAX, depth_max: 4, width: usize::MAX })
        }
    }
}
