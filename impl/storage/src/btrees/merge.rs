//! The merge of three lists of items, sorted by their keys.
//!
//! All three are walked at once. The next step depends on the three next items: on which of them have the least key.
//! Since each list has a key but once, that tells what became of it:
//!
//! | the least key is that of | it was | and so |
//! |---|---|---|
//! | all three | left there by both | the value that is not the ancestor's is taken; two of those are a conflict |
//! | ancestor and committed | taken out by the new one | it stays out, unless the committed one has another value for it |
//! | ancestor and new | taken out by the committed one | likewise |
//! | committed, or new | put in by that one | it is taken |
//! | committed and new | put in by both | a conflict, even with the same value |
//! | the ancestor | taken out by both | a conflict |
//!
//! Taking the first key out is a conflict, too: the tree above the bucket may know the bucket by it. And so is leaving
//! a bucket with nothing in it, which had to be taken out of the tree.
//!
//! Keys of one bucket need not be of one type; then it matters which are compared with which, for it is a conflict if
//! that cannot be done. Compared are the ancestor's with both others, and those with each other if neither is the
//! ancestor's.

use std::cmp::Ordering::{Equal, Greater, Less};

use super::order::Comparer;
use super::state::Item;

/// A list, and how far it was walked.
struct Walk<'i, 'r> {
    items: &'i [Item<'r>],
    at: usize,
}

impl<'i, 'r> Walk<'i, 'r> {
    fn next(&self) -> Option<&'i Item<'r>> {
        self.items.get(self.at)
    }
}

/// The next step, in terms of the ancestor, the committed one and the new one.
enum Turn {
    TakeCommitted,
    TakeNew,
    /// All three have the key.
    KeepCommitted,
    KeepNew,
    /// The ancestor and the committed one have it.
    DroppedByNew,
    /// The ancestor and the new one have it.
    DroppedByCommitted,
}

/// The items with both changes, or none if that is a conflict. The lists are the ancestor's, the committed one and the
/// new one.
pub(super) fn merge<'r>(
    [ancestor, committed, new]: [&[Item<'r>]; 3],
    in_python: bool,
    comparer: &mut Comparer,
) -> Option<Vec<Item<'r>>> {
    if committed.is_empty() || new.is_empty() {
        return None;
    }
    let walk = |items| Walk { items, at: 0 };
    let [mut ancestor, mut committed, mut new] = [walk(ancestor), walk(committed), walk(new)];
    let mut merged = Vec::new();
    while let Some(turn) = turn(&ancestor, &committed, &new, comparer)? {
        let taken = match turn {
            Turn::TakeCommitted | Turn::KeepCommitted => committed.next(),
            Turn::TakeNew | Turn::KeepNew => new.next(),
            Turn::DroppedByNew | Turn::DroppedByCommitted => None,
        };
        let mut taken = taken.cloned();
        if let (true, Turn::KeepCommitted | Turn::KeepNew) = (in_python, &turn) {
            // Keys can be equal and not the same: 1, 1.0, True.
            taken = taken.zip(ancestor.next()).map(|(taken, a)| Item { key: a.key.clone(), value: taken.value });
            if taken.as_ref().is_some_and(|taken| taken.value.is_some() && !goes_last(&merged, taken, comparer)) {
                return None;
            }
        }
        merged.extend(taken);
        let (a, c, n) = match turn {
            Turn::TakeCommitted => (0, 1, 0),
            Turn::TakeNew => (0, 0, 1),
            Turn::KeepCommitted | Turn::KeepNew => (1, 1, 1),
            Turn::DroppedByNew => (1, 1, 0),
            Turn::DroppedByCommitted => (1, 0, 1),
        };
        (ancestor.at, committed.at, new.at) = (ancestor.at + a, committed.at + c, new.at + n);
    }
    (!merged.is_empty()).then_some(merged)
}

/// The implementation in Python looks for the place of such an item, by halving. Does that lead to the end?
fn goes_last(merged: &[Item<'_>], item: &Item<'_>, comparer: &mut Comparer) -> bool {
    let mut rest = merged;
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        if comparer.data(&rest[middle].key, &item.key) != Some(Less) {
            return false;
        }
        rest = &rest[middle + 1..];
    }
    true
}

/// The next turn: `Some(None)` at the end, `None` if there is a conflict.
fn turn<'r>(
    ancestor: &Walk<'_, 'r>,
    committed: &Walk<'_, 'r>,
    new: &Walk<'_, 'r>,
    comparer: &mut Comparer,
) -> Option<Option<Turn>> {
    Some(Some(match (ancestor.next(), committed.next(), new.next()) {
        (None, None, None) => return Some(None),
        (None, Some(_), None) => Turn::TakeCommitted,
        (None, None, Some(_)) => Turn::TakeNew,
        (None, Some(c), Some(n)) => match comparer.data(&c.key, &n.key)? {
            Less => Turn::TakeCommitted,
            Greater => Turn::TakeNew,
            Equal => return None,
        },
        // The rest of the ancestor was taken out by both.
        (Some(_), None, None) => return None,
        (Some(a), Some(c), None) => match comparer.data(&a.key, &c.key)? {
            Greater => Turn::TakeCommitted,
            Equal if comparer.same_value(a, c)? => Turn::DroppedByNew,
            _ => return None,
        },
        (Some(a), None, Some(n)) => match comparer.data(&a.key, &n.key)? {
            Greater => Turn::TakeNew,
            Equal if comparer.same_value(a, n)? => Turn::DroppedByCommitted,
            _ => return None,
        },
        (Some(a), Some(c), Some(n)) => match (comparer.data(&a.key, &c.key)?, comparer.data(&a.key, &n.key)?) {
            (Equal, Equal) if comparer.same_value(a, c)? => Turn::KeepNew,
            (Equal, Equal) if comparer.same_value(a, n)? => Turn::KeepCommitted,
            (Equal, Equal) => return None,
            (Equal, Greater) => Turn::TakeNew,
            (Greater, Equal) => Turn::TakeCommitted,
            (Equal, Less) if new.at > 0 && comparer.same_value(a, c)? => Turn::DroppedByNew,
            (Less, Equal) if committed.at > 0 && comparer.same_value(a, n)? => Turn::DroppedByCommitted,
            (Equal, Less) | (Less, Equal) => return None,
            (with_committed, with_new) => match comparer.data(&c.key, &n.key)? {
                Equal => return None,
                Less if with_committed == Greater => Turn::TakeCommitted,
                _ if with_committed == Greater || with_new == Greater => Turn::TakeNew,
                _ => return None,
            },
        },
    }))
}
