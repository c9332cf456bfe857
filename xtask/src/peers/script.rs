//! The steps of both engines: commits as plain values, and an author that generates them.
//!
//! The author knows what has been committed, and so writes commits that must be accepted ([`Author::accepted`]) and
//! ones that must be refused ([`Author::refused`]). The author leaves out four cases, because the two engines are meant
//! to differ in them: a store with a serial to an unknown oid (a conflict for us), an empty record (an error for us), a
//! tid that is not later than the last (an error for us), and `check_current` of a deleted object (a key error for ZODB
//! alone).

use std::collections::BTreeMap;

use bytes::Bytes;
use vellum_file::FileStorage;
use vellum_storage::{Error, Oid, Storage, Tid, TransactionMeta, Voted};

use super::dice::Dice;

/// One transaction.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub tid: Option<Tid>,
    /// User, description and extension.
    pub meta: [Bytes; 3],
    pub changes: Vec<Change>,
}

/// One change in it.
#[derive(Clone, Debug)]
pub enum Change {
    Store { oid: Oid, serial: Tid, data: Bytes },
    Delete { oid: Oid, serial: Tid },
    CheckCurrent { oid: Oid, serial: Tid },
    Undo { tid: Tid },
}

impl Change {
    /// The object for which this writes a record.
    pub fn written(&self) -> Option<Oid> {
        match *self {
            Change::Store { oid, .. } | Change::Delete { oid, .. } => Some(oid),
            Change::CheckCurrent { .. } | Change::Undo { .. } => None,
        }
    }
}

impl Commit {
    /// The objects of its records, in the order of the records.
    pub fn written(&self) -> Vec<Oid> {
        self.changes.iter().filter_map(Change::written).collect()
    }

    /// Votes on it in our engine.
    pub fn vote(&self, storage: &dyn Storage) -> Result<Voted, Error> {
        let [user, description, extension] = self.meta.clone();
        let mut meta = TransactionMeta::new().user(user).description(description).extension(extension);
        meta.tid = self.tid;
        let mut transaction = storage.begin(meta)?;
        for change in &self.changes {
            match change {
                Change::Store { oid, serial, data } => transaction.store(*oid, *serial, data.clone())?,
                Change::Delete { oid, serial } => transaction.delete(*oid, *serial)?,
                Change::CheckCurrent { oid, serial } => transaction.check_current(*oid, *serial)?,
                Change::Undo { tid } => transaction.undo(*tid)?,
            }
        }
        storage.vote(transaction)
    }

    /// Commits it to our engine.
    pub fn commit(&self, storage: &FileStorage) -> Result<Tid, Error> {
        self.vote(storage)?.finish()
    }
}

/// Bytes that no unpickler gets past, so that ZODB's conflict resolution gives up at once.
pub fn record(dice: &mut Dice, length: usize) -> Bytes {
    let mut data = dice.bytes(length);
    if let Some(first) = data.first_mut() {
        *first = b'!';
    }
    data.into()
}

/// A `BTrees.Length.Length`, which both engines merge by adding up, as ZODB writes it.
fn length_record(dice: &mut Dice) -> Bytes {
    let mut data = b"\x80\x03cBTrees.Length\nLength\nq\x00.\x80\x03K".to_vec();
    data.extend([dice.below(256) as u8, b'.']);
    data.into()
}

#[derive(Clone, Copy, Debug)]
struct Known {
    tid: Tid,
    is_nothing: bool,
}

/// Writes commits, and knows their results.
#[derive(Clone, Debug)]
pub struct Author {
    pub dice: Dice,
    /// The objects that are changed, and another that never is.
    oids: Vec<Oid>,
    unknown: Oid,
    known: BTreeMap<Oid, Known>,
    last: Tid,
    /// Whether the objects are of a class whose changes can be merged.
    merge: bool,
}

impl Author {
    pub fn new(seed: u64) -> Author {
        let mut dice = Dice::new(seed);
        let mut oids = match dice.below(4) {
            0 => (0..12).collect(),
            1 => (0..12).map(|n| n << (5 * n)).collect(),
            2 => (0..12).map(|_| dice.roll()).collect(),
            _ => vec![0, 1, 0xffff, 0x1_0000, 0x1_0001, 0xff_ffff, 1 << 47, (1 << 63) - 1, 1 << 63, u64::MAX - 1],
        };
        if dice.one_in(3) {
            oids.push(u64::MAX);
        }
        let first: Tid = Tid::at("2024-02-29T23:58:00Z".parse().expect("a moment"));
        Author {
            dice,
            oids: oids.into_iter().map(Oid).collect(),
            unknown: Oid(0x0123_4567_89ab_cdef),
            known: BTreeMap::new(),
            last: first,
            merge: false,
        }
    }

    /// Writes about few objects, so that much is changed again and again.
    pub fn few(seed: u64) -> Author {
        let mut author = Author::new(seed);
        author.oids.truncate(4);
        author.merge = author.dice.one_in(2);
        author
    }

    /// Notes that these objects were changed, and which of them are nothing now.
    pub fn learn_state(
        &mut self,
        tid: Tid,
        touched: &[Oid],
        is_nothing: impl Fn(Oid) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.last = tid;
        for &oid in touched {
            self.known.insert(oid, Known { tid, is_nothing: is_nothing(oid)? });
        }
        Ok(())
    }

    /// Notes that a commit was accepted.
    pub fn learn(&mut self, commit: &Commit, tid: Tid) {
        self.last = tid;
        for change in &commit.changes {
            if let Some(oid) = change.written() {
                self.known.insert(oid, Known { tid, is_nothing: matches!(change, Change::Delete { .. }) });
            }
        }
    }

    fn serial(&self, oid: Oid) -> Tid {
        self.known.get(&oid).map_or(Tid::ZERO, |known| known.tid)
    }

    /// A commit of these changes, with the next tid and no metadata.
    pub fn commit(&mut self, changes: Vec<Change>) -> Commit {
        let ahead = [1, 2, 1 << 20, 1 << 31, 1 << 33];
        let most = self.dice.pick(&ahead);
        let tid = Tid(self.last.0 + 1 + self.dice.below(most));
        Commit { tid: Some(tid), changes, ..Commit::default() }
    }

    /// A store that fits the present state.
    pub fn store(&mut self, oid: Oid, length: usize) -> Change {
        let data = if self.merge { length_record(&mut self.dice) } else { record(&mut self.dice, length) };
        Change::Store { oid, serial: self.serial(oid), data }
    }

    /// A commit that must be accepted; now and then an empty one.
    pub fn accepted(&mut self) -> Commit {
        let count = self.dice.pick(&[0, 1, 1, 2, 3, 5, 8]);
        let changes = (0..count).map(|_| self.change()).collect();
        let mut commit = self.commit(changes);
        for n in 0..2 {
            let length = self.dice.pick(&[0, 1, 7, 30, 30, 255, 256, 1000]);
            commit.meta[n] = self.dice.bytes(length).into();
        }
        if self.dice.one_in(2) {
            commit.meta[2] = extension(self.dice.below(100) as u8);
        }
        commit
    }

    /// An accepted commit in which some record is written.
    pub fn accepted_with_records(&mut self) -> Commit {
        loop {
            let commit = self.accepted();
            if !commit.written().is_empty() {
                return commit;
            }
        }
    }

    fn change(&mut self) -> Change {
        let oid = self.dice.pick(&self.oids);
        match (self.known.get(&oid), self.dice.below(8)) {
            (Some(known), 0) => Change::Delete { oid, serial: known.tid },
            (Some(known), 1) if !known.is_nothing => Change::CheckCurrent { oid, serial: known.tid },
            _ => {
                let length = self.dice.pick(&[1, 2, 8, 40, 41, 100, 100, 255, 4096, 65_000]);
                self.store(oid, length)
            }
        }
    }

    /// A commit with one thing in it that must be refused.
    pub fn refused(&mut self) -> Commit {
        let mut commit = self.accepted();
        let there = self.known.iter().filter(|(_, known)| !known.is_nothing).map(|(&oid, known)| (oid, known.tid));
        let there: Vec<(Oid, Tid)> = there.collect();
        let unknown = self.unknown;
        let Some(&(oid, tid)) = there.get(self.dice.below(there.len().max(1) as u64) as usize) else {
            commit.changes.push(Change::Delete { oid: unknown, serial: Tid::ZERO });
            return commit;
        };
        let wrong = self.dice.pick(&[Tid::ZERO, Tid(tid.0 - 1), Tid(tid.0 + 1)]);
        let data = record(&mut self.dice, 50);
        let change = match self.dice.below(7) {
            0 | 1 => Change::Store { oid, serial: wrong, data },
            2 => Change::Delete { oid, serial: wrong },
            3 => Change::Delete { oid: unknown, serial: Tid::ZERO },
            4 => Change::CheckCurrent { oid, serial: wrong },
            5 => Change::CheckCurrent { oid: unknown, serial: wrong },
            _ => {
                let field = self.dice.below(3) as usize;
                commit.meta[field] = vec![b'x'; 65_536].into();
                return commit;
            }
        };
        let at = self.dice.below(commit.changes.len() as u64 + 1) as usize;
        commit.changes.insert(at, change);
        commit
    }
}

/// The pickled dict `{'note': number}`: ZODB loads extensions when it is asked for histories.
fn extension(number: u8) -> Bytes {
    let mut pickle = b"\x80\x03}q\x00X\x04\x00\x00\x00noteq\x01K".to_vec();
    pickle.extend_from_slice(&[number, b's', b'.']);
    pickle.into()
}
