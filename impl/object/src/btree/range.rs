//! The keys and values of a part of a tree.

use std::cmp::Ordering;
use std::ops::Bound;

use super::content::Key;
use super::cursor::Cursor;
use super::family::Shape;
use super::leaf::{Leaf, compare};
use super::node::Node;
use super::way::key_error;
use crate::Ref;
use crate::error::{Result, Trouble};

/// Keys and values between two bounds, from either end. It loads the leaves that it passes, and no others.
///
/// While it exists, the leaf where it is and the nodes above that cannot be changed ([`Error::InUse`]).
///
/// [`Error::InUse`]: crate::Error::InUse
pub struct Range<S: Shape> {
    tree: Ref<Node<S>>,
    low: Bound<S::Key>,
    high: Bound<S::Key>,
    front: Option<(Cursor<S>, usize)>,
    /// The place behind the next key from the back.
    back: Option<(Cursor<S>, usize)>,
    /// The keys of the leaf at the front are within the bounds up to this place.
    within: usize,
    is_over: bool,
}

impl<S: Shape> Range<S> {
    pub(super) fn new(tree: &Ref<Node<S>>, low: Bound<S::Key>, high: Bound<S::Key>) -> Range<S> {
        Range { tree: tree.clone(), low, high, front: None, back: None, within: 0, is_over: false }
    }

    /// The cursor at the front, and the place of its next key.
    fn seek_front(&mut self) -> Result<bool> {
        if self.front.is_none() {
            let (cursor, at) = match &self.low {
                Bound::Unbounded => (Cursor::to_first(&self.tree)?, 0),
                Bound::Included(key) | Bound::Excluded(key) => {
                    key.check().map_err(|trouble| key_error(&self.tree, trouble))?;
                    let cursor = Cursor::to(&self.tree, &mut |children| children.place(key))?;
                    let after = matches!(self.low, Bound::Excluded(_));
                    let at = cursor.as_ref().map_or(Ok(0), |cursor| place(&cursor.leaf, key, after));
                    (cursor, at.map_err(|trouble| key_error(&self.tree, trouble))?)
                }
            };
            let Some(cursor) = cursor else { return Ok(false) };
            self.front = Some((cursor, at));
        }
        let Some((cursor, at)) = &mut self.front else { return Ok(false) };
        if *at >= cursor.leaf.len() {
            if !cursor.next()? {
                return Ok(false);
            }
            *at = 0;
        }
        Ok(true)
    }

    /// The cursor at the back, and the place behind its next key.
    fn seek_back(&mut self) -> Result<bool> {
        if self.back.is_none() {
            let (cursor, at) = match &self.high {
                Bound::Unbounded => {
                    let cursor = Cursor::to_last(&self.tree)?;
                    let at = cursor.as_ref().map_or(0, |cursor| cursor.leaf.len());
                    (cursor, at)
                }
                Bound::Included(key) | Bound::Excluded(key) => {
                    key.check().map_err(|trouble| key_error(&self.tree, trouble))?;
                    let cursor = Cursor::to(&self.tree, &mut |children| children.place(key))?;
                    let after = matches!(self.high, Bound::Included(_));
                    let at = cursor.as_ref().map_or(Ok(0), |cursor| place(&cursor.leaf, key, after));
                    (cursor, at.map_err(|trouble| key_error(&self.tree, trouble))?)
                }
            };
            let Some(cursor) = cursor else { return Ok(false) };
            self.back = Some((cursor, at));
        }
        let Some((cursor, at)) = &mut self.back else { return Ok(false) };
        if *at == 0 {
            if !cursor.back()? {
                return Ok(false);
            }
            *at = cursor.leaf.len();
        }
        Ok(true)
    }

    fn step<R>(&mut self, forwards: bool, work: impl FnOnce(&S::Key, &S::Value) -> R) -> Result<Option<R>> {
        let is_there = if forwards { self.seek_front()? } else { self.seek_back()? };
        if !is_there {
            return Ok(None);
        }
        if let (Some((front, at)), Some((back, behind))) = (&self.front, &self.back)
            && front.is_at(back)
            && at >= behind
        {
            return Ok(None);
        }
        let is_alone = forwards && self.back.is_none();
        let (cursor, at) = match if forwards { &mut self.front } else { &mut self.back } {
            Some((cursor, at)) if forwards => {
                *at += 1;
                (cursor, *at - 1)
            }
            Some((cursor, at)) => {
                *at -= 1;
                (cursor, *at)
            }
            None => return Ok(None),
        };
        let key = &cursor.leaf.keys()[at];
        let bound = if forwards { &self.high } else { &self.low };
        let is_within = match (bound, forwards) {
            (Bound::Unbounded, _) => Ok(true),
            (Bound::Included(high), true) => compare(key, high).map(Ordering::is_le),
            (Bound::Excluded(high), true) => compare(key, high).map(Ordering::is_lt),
            (Bound::Included(low), false) => compare(key, low).map(Ordering::is_ge),
            (Bound::Excluded(low), false) => compare(key, low).map(Ordering::is_gt),
        };
        let is_within = is_within.map_err(|trouble| key_error(&self.tree, trouble))?;
        if !is_within {
            return Ok(None);
        }
        if is_alone {
            self.within = match &self.high {
                _ if cursor.leaf.is_unordered() => 0,
                Bound::Unbounded => cursor.leaf.len(),
                Bound::Included(high) => place(&cursor.leaf, high, true).unwrap_or(0),
                Bound::Excluded(high) => place(&cursor.leaf, high, false).unwrap_or(0),
            };
        }
        Ok(Some(work(key, &cursor.leaf.values()[at])))
    }

    /// The next key and value as `work` sees them, without copies.
    pub fn next_with<R>(&mut self, work: impl FnOnce(&S::Key, &S::Value) -> R) -> Option<Result<R>> {
        if let (Some((cursor, at)), None) = (&mut self.front, &self.back)
            && *at < self.within
        {
            let (leaf, here) = (&*cursor.leaf, *at);
            *at += 1;
            return Some(Ok(work(&leaf.keys()[here], &leaf.values()[here])));
        }
        self.advance(true, work)
    }

    fn advance<R>(&mut self, forwards: bool, work: impl FnOnce(&S::Key, &S::Value) -> R) -> Option<Result<R>> {
        if self.is_over {
            return None;
        }
        let done = self.step(forwards, work);
        if !matches!(done, Ok(Some(_))) {
            self.is_over = true;
            (self.front, self.back) = (None, None);
        }
        done.transpose()
    }
}

/// The number of keys of a leaf that are less than `key`, or not greater.
fn place<S: Shape>(leaf: &Leaf<S>, key: &S::Key, after: bool) -> Result<usize, Trouble> {
    Ok(match leaf.find(key)? {
        Ok(at) => at + usize::from(after),
        Err(at) => at,
    })
}

fn copies<K: Clone, V: Clone>(key: &K, value: &V) -> (K, V) {
    (key.clone(), value.clone())
}

/// An error ends it.
impl<S: Shape> Iterator for Range<S> {
    type Item = Result<(S::Key, S::Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(copies)
    }
}

impl<S: Shape> DoubleEndedIterator for Range<S> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.advance(false, copies)
    }
}
