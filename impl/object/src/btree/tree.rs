//! The operations of trees.

use std::ops::{Bound, RangeBounds};

use super::cursor::Cursor;
use super::family::{Family, Shape};
use super::node::Node;
use super::range::Range;
use super::way::{Seen, Way, glance, key_error};
use super::write::Put;
use super::{BTree, TreeSet};
use crate::Ref;
use crate::error::Result;

/// Operations of mappings and of sets.
///
/// # Errors
///
/// All of them return [`Error::Key`] for a key that has no order with those in the tree, and [`Error::InTree`] or
/// [`Error::Unreadable`] if a part of the tree cannot be read or does not fit the others. Changes also return the
/// errors of [`Ref::change`]. After an error of [`Error::InUse`] or of the records, nothing was changed.
///
/// [`Error::Key`]: crate::Error::Key
/// [`Error::InTree`]: crate::Error::InTree
/// [`Error::Unreadable`]: crate::Error::Unreadable
/// [`Error::InUse`]: crate::Error::InUse
impl<S: Shape> Ref<Node<S>> {
    /// Whether the key is in the tree.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn contains(&self, key: &S::Key) -> Result<bool> {
        Ok(self.find_with(key, |_| ())?.is_some())
    }

    /// Looks a key up, and gives its value to `work`.
    fn find_with<R>(&self, key: &S::Key, work: impl FnOnce(&S::Value) -> R) -> Result<Option<R>> {
        super::content::Key::check(key).map_err(|trouble| key_error(self, trouble))?;
        let core = self.raw().core()?;
        match glance(&core, self, key, |_| ()) {
            Some(Seen::Empty) => return Ok(None),
            Some(Seen::Leaf(_, leaf)) => {
                if let Ok(at) = leaf.find(key) {
                    return Ok(at.ok().map(|at| work(&leaf.values()[at])));
                }
            }
            None => {}
        }
        let mut way = Way::new(self)?;
        let Some(leaf) = way.descend(&mut |children| children.place(key))? else { return Ok(None) };
        let at = leaf.find(key).map_err(|trouble| way.key(trouble))?;
        Ok(at.ok().map(|at| work(&leaf.values()[at])))
    }

    /// Keys and values between two bounds, in the order of the keys or backwards. Only leaves that have some of them
    /// are loaded, and the nodes above.
    pub fn range(&self, bounds: impl RangeBounds<S::Key>) -> Range<S> {
        Range::new(self, bounds.start_bound().cloned(), bounds.end_bound().cloned())
    }

    /// All keys and values.
    pub fn items(&self) -> Range<S> {
        self.range(..)
    }

    /// All keys.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = Result<S::Key>> + use<S> {
        self.items().map(|item| item.map(|(key, _)| key))
    }

    /// The least key that is not less than a bound. None if there is none.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn min_key(&self, not_below: Option<&S::Key>) -> Result<Option<S::Key>> {
        let low = not_below.map_or(Bound::Unbounded, Bound::Included);
        self.range((low, Bound::Unbounded)).next_with(|key, _| key.clone()).transpose()
    }

    /// The greatest key that is not greater than a bound. None if there is none.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn max_key(&self, not_above: Option<&S::Key>) -> Result<Option<S::Key>> {
        let high = not_above.map_or(Bound::Unbounded, Bound::Included);
        let greatest = self.range((Bound::Unbounded, high)).next_back().transpose()?;
        Ok(greatest.map(|(key, _)| key))
    }

    /// How many keys there are. It loads all leaves: keep a [`Length`](super::Length) beside a large tree.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn count(&self) -> Result<usize> {
        let mut count = 0;
        let Some(mut cursor) = Cursor::to_first(self)? else { return Ok(0) };
        loop {
            count += cursor.leaf.len();
            if !cursor.next()? {
                return Ok(count);
            }
        }
    }

    /// Whether there is no key. It loads only the root.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(matches!(self.view()?.below, super::node::Below::Nothing))
    }

    /// Removes all keys. Only the root is changed.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn clear(&self) -> Result<()> {
        self.empty()
    }
}

/// Operations of mappings.
impl<F: Family> Ref<BTree<F>> {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn get(&self, key: &F::Key) -> Result<Option<F::Value>> {
        self.find_with(key, F::Value::clone)
    }

    /// The value of a key as `work` sees it, without a copy: none if the key is not here. `work` cannot change the leaf
    /// ([`Error::InUse`]).
    ///
    /// # Errors
    ///
    /// As all operations.
    ///
    /// [`Error::InUse`]: crate::Error::InUse
    pub fn get_with<R>(&self, key: &F::Key, work: impl FnOnce(&F::Value) -> R) -> Result<Option<R>> {
        self.find_with(key, work)
    }

    /// Gives a key a value, and returns the old one: `tree[key] = value`. An equal key that is here stays as it is.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn set(&self, key: impl Into<F::Key>, value: impl Into<F::Value>) -> Result<Option<F::Value>> {
        Ok(match self.put(key.into(), value.into(), true)? {
            Put::Added => None,
            Put::Replaced(old) | Put::Kept(old) => Some(old),
        })
    }

    /// Gives a key a value if it is not here. Returns whether it was not.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn insert(&self, key: impl Into<F::Key>, value: impl Into<F::Value>) -> Result<bool> {
        Ok(matches!(self.put(key.into(), value.into(), false)?, Put::Added))
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn remove(&self, key: &F::Key) -> Result<Option<F::Value>> {
        self.take(key)
    }

    /// Removes the least key, and returns it with its value.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn pop_first(&self) -> Result<Option<(F::Key, F::Value)>> {
        let Some((key, value)) = self.items().next().transpose()? else { return Ok(None) };
        self.take(&key)?;
        Ok(Some((key, value)))
    }
}

/// Operations of sets.
impl<F: Family> Ref<TreeSet<F>> {
    /// Adds a key. Returns whether it was not here.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn add(&self, key: impl Into<F::Key>) -> Result<bool> {
        Ok(matches!(self.put(key.into(), (), false)?, Put::Added))
    }

    /// Removes a key. Returns whether it was here.
    ///
    /// # Errors
    ///
    /// As all operations.
    pub fn discard(&self, key: &F::Key) -> Result<bool> {
        Ok(self.take(key)?.is_some())
    }
}
