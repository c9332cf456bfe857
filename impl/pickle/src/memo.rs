//! The memo: where a pickle keeps what it will need again.
//!
//! Every pickler numbers its entries 0, 1, 2 …, so the memo is a vector. But the number is whatever the pickle says,
//! and `LONG_BINPUT 4294967295` is five bytes long. A number that a pickle of this length could not have counted to
//! goes into a hash map, so that memory stays in proportion to the input.

use std::collections::HashMap;

/// A pickle's memo.
#[derive(Debug)]
pub(crate) struct Memo<T> {
    dense: Vec<Option<T>>,
    sparse: HashMap<u64, T>,
    /// How many entries there are: MEMOIZE takes this as its number.
    count: u64,
}

impl<T: Copy> Memo<T> {
    pub(crate) fn new() -> Self {
        Memo { dense: Vec::new(), sparse: HashMap::new(), count: 0 }
    }

    /// Forgets everything, and keeps the memory for the next record.
    pub(crate) fn clear(&mut self) {
        self.dense.clear();
        self.sparse.clear();
        self.count = 0;
    }

    /// Keeps `item` under `key`. Keys below `limit`, the length of the input, may use the vector.
    #[inline]
    pub(crate) fn put(&mut self, key: u64, item: T, limit: usize) {
        let length = self.dense.len() as u64;
        if key == length && key < limit as u64 {
            self.dense.push(Some(item));
            self.count += 1;
        } else if key < length {
            let slot = &mut self.dense[key as usize];
            self.count += u64::from(slot.is_none());
            *slot = Some(item);
        } else {
            self.put_beyond(key, item, limit);
        }
    }

    #[cold]
    fn put_beyond(&mut self, key: u64, item: T, limit: usize) {
        if key < limit as u64 {
            self.dense.resize(key as usize, None);
            self.dense.push(Some(item));
            self.count += 1;
        } else if self.sparse.insert(key, item).is_none() {
            self.count += 1;
        }
    }

    /// Keeps `item` under the next number.
    #[inline]
    pub(crate) fn memoize(&mut self, item: T, limit: usize) {
        self.put(self.count, item, limit);
    }

    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<T> {
        match self.dense.get(usize::try_from(key).ok()?) {
            Some(slot) => *slot,
            None => self.sparse.get(&key).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_key_takes_one_entry_and_not_four_billion() {
        let mut memo = Memo::new();
        memo.put(u64::from(u32::MAX), 'a', 100);
        memo.put(99, 'b', 100);
        memo.put(3, 'c', 100);
        memo.put(3, 'd', 100);
        assert!(memo.dense.capacity() < 1000);
        assert_eq!(memo.get(u64::from(u32::MAX)), Some('a'));
        assert_eq!((memo.get(99), memo.get(3), memo.get(4)), (Some('b'), Some('d'), None));
        memo.memoize('e', 100);
        assert_eq!(memo.get(3), Some('e'), "MEMOIZE counts entries, as Python does, and does not look for a gap");
    }
}
