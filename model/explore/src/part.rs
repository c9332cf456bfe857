//! Parts of a state: shared by the states that have them in common, and hashed once.
//!
//! A step changes one or two of some six parts. The others are shared with the state before, and their hashes are
//! known.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A value with its hash. Between [`Part::edit`] and [`Part::seal`] the hash is not known.
#[derive(Clone)]
pub struct Part<T> {
    value: Arc<T>,
    hash: Option<u64>,
}

impl<T: Hash> Part<T> {
    /// A part, and its hash.
    pub fn new(value: T) -> Part<T> {
        let mut part = Part { value: Arc::new(value), hash: None };
        part.seal();
        part
    }

    /// Takes the hash, if the value was edited.
    pub fn seal(&mut self) {
        if self.hash.is_none() {
            // Its keys are fixed: the same states have the same hashes in each run.
            let mut hasher = DefaultHasher::new();
            self.value.hash(&mut hasher);
            self.hash = Some(hasher.finish());
        }
    }
}

impl<T: Clone> Part<T> {
    /// The value, to be changed.
    pub fn edit(&mut self) -> &mut T {
        self.hash = None;
        Arc::make_mut(&mut self.value)
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash.expect("a part is sealed before it is compared"));
    }
}

impl<T> PartialEq for Part<T> {
    fn eq(&self, other: &Part<T>) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Part<T> {}

/// A value that does not belong to the identity of a state.
#[derive(Clone, Copy, Debug)]
pub struct Unseen<T>(pub T);

impl<T> Hash for Unseen<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<T> PartialEq for Unseen<T> {
    fn eq(&self, _: &Unseen<T>) -> bool {
        true
    }
}

impl<T> Eq for Unseen<T> {}
