//! A walk over a table of which some pages are damaged: the rows in order, and the gaps between them.
//!
//! The store's own walk ends at the first page that it cannot read. This one then looks for the next key from which it
//! can be read on. It tries keys that are further and further away, each by a sixteenth, and halves the distance to
//! the first that works:
//!
//! ```text
//!   rows      a  b  c │ damaged page      │ x  y  z
//!   tried             ·  ·   ·    ·     ·      ✓
//!   halved                              ·  ✓
//! ```
//!
//! Pages between two damaged ones can be passed over if they are close together; they are in the gap then, which is
//! reported. A key that breaks the order is a damaged one, and is reported, too.

use std::collections::VecDeque;
use std::path::Path;

use vellum_storage::Result;

use crate::tables::door;

/// Rows from a key on, by the store.
pub(super) type Rows<'a, T> = Box<dyn Iterator<Item = Result<(u128, T)>> + 'a>;

/// A place of the walk.
#[derive(Debug)]
pub(super) enum Met<T> {
    Row(u128, T),
    /// The rows between these two keys cannot be read.
    Gap {
        after: Option<u128>,
        before: Option<u128>,
        why: String,
    },
    /// A row whose key is not where it belongs.
    Astray(u128),
}

pub(super) struct Walk<'a, T> {
    path: &'a Path,
    open: Box<dyn Fn(u128) -> Result<Rows<'a, T>> + 'a>,
    /// The largest key that the table can have.
    max: u128,
    rows: Option<Rows<'a, T>>,
    /// Where the next row can be; none at the end.
    from: Option<u128>,
    /// A row that is given if the next one is later.
    held: Option<(u128, T)>,
    /// The last row that was given.
    last: Option<u128>,
    /// A gap that the next row ends: the key before it, and why.
    gap: Option<(Option<u128>, String)>,
    ready: VecDeque<Met<T>>,
}

impl<'a, T> Walk<'a, T> {
    pub fn new(path: &'a Path, max: u128, open: impl Fn(u128) -> Result<Rows<'a, T>> + 'a) -> Walk<'a, T> {
        Walk {
            path,
            open: Box::new(open),
            max,
            rows: None,
            from: Some(0),
            held: None,
            last: None,
            gap: None,
            ready: VecDeque::new(),
        }
    }

    fn step(&mut self) {
        let Some(from) = self.from else { return };
        let (rows, open) = (&mut self.rows, &self.open);
        let stepped = door(self.path, || {
            let rows = match rows {
                Some(rows) => rows,
                none => none.insert(open(from)?),
            };
            rows.next().transpose()
        });
        match stepped {
            Ok(Some((key, row))) => self.take(key, row),
            Ok(None) => {
                self.from = None;
                self.release();
                self.end_gap(None);
            }
            Err(error) => {
                self.rows = None;
                self.release();
                self.gap.get_or_insert((self.last, error.to_string()));
                self.from = self.resume(from);
                if self.from.is_none() {
                    self.end_gap(None);
                }
            }
        }
    }

    fn take(&mut self, key: u128, row: T) {
        if self.last.is_some_and(|last| key <= last) || key > self.max {
            self.ready.push_back(Met::Astray(key));
            return;
        }
        match self.held.take() {
            // One of the two is wrong; the later ones say which.
            Some((held, _)) if key <= held => self.ready.push_back(Met::Astray(held)),
            Some(held) => {
                self.held = Some(held);
                self.release();
            }
            None => {}
        }
        self.end_gap(Some(key));
        self.held = Some((key, row));
        self.from = key.checked_add(1);
    }

    /// Gives the row that is held.
    fn release(&mut self) {
        if let Some((key, row)) = self.held.take() {
            self.last = Some(key);
            self.ready.push_back(Met::Row(key, row));
        }
    }

    fn end_gap(&mut self, before: Option<u128>) {
        if let Some((after, why)) = self.gap.take() {
            self.ready.push_back(Met::Gap { after, before, why });
        }
    }

    /// The key from which the table can be read on; none if there is none.
    fn resume(&self, from: u128) -> Option<u128> {
        let is_readable = |key: u128| door(self.path, || (self.open)(key)?.next().transpose()).is_ok();
        let steps = (0..128).flat_map(|bit| (0..16).map(move |part| (1_u128 << bit) / 16 * part + (1 << bit)));
        let (mut damaged, mut whole) = (from, None);
        for step in steps {
            let Some(key) = from.checked_add(step).filter(|key| *key <= self.max) else { break };
            if key <= damaged {
                continue;
            }
            if is_readable(key) {
                whole = Some(key);
                break;
            }
            damaged = key;
        }
        let mut whole = whole?;
        while whole - damaged > 1 {
            let between = damaged + (whole - damaged) / 2;
            if is_readable(between) { whole = between } else { damaged = between }
        }
        Some(whole)
    }
}

impl<T> Iterator for Walk<'_, T> {
    type Item = Met<T>;

    fn next(&mut self) -> Option<Met<T>> {
        while self.ready.is_empty() && self.from.is_some() {
            self.step();
        }
        if self.ready.is_empty() {
            self.release();
        }
        self.ready.pop_front()
    }
}
