//! Random histories of objects that refer to each other, and a file's contents as the rules see them.

use std::collections::HashMap;
use std::path::Path;

use vellum_disk::{Disk, Open, RealDisk};
use vellum_file::{Scanner, format::START};
use vellum_harness::node::Node;
use vellum_spec::{Content, Database, Revision, Status, Transaction};
use vellum_storage::{Oid, Tid};

use crate::peers::Trouble;
use crate::peers::dice::Dice;
use crate::peers::script::{Change, Commit};

/// So many objects there are at most, of the history's own.
pub const OIDS: u64 = 9;

/// An object that is nowhere.
const NOWHERE: Oid = Oid(0x0123_4567_89ab_cdef);

/// The source of a record whose backpointer leads to no record, or not to the last one of its object in its transaction: a
/// time that there never was.
pub const WRONG: Content = Content::Source(u64::MAX);

/// What a file holds. Only its structure is read, by the walk that believes nothing; no pointer is followed.
pub fn read(path: &Path) -> Result<Database, Trouble> {
    let bytes = std::fs::read(path)?;
    let file = RealDisk.open(path, Open::Read)?;
    let mut scanner = Scanner::new(&*file, bytes.len() as u64);
    let (mut database, mut position) = (Database::default(), START);
    let (mut at, mut last) = (HashMap::new(), HashMap::new());
    while position < bytes.len() as u64 {
        let mut revisions = Vec::new();
        let header = scanner.transaction(position, |header, record| {
            last.insert((record.header.oid, header.tid.0), record.position);
            at.insert(record.position, header.tid.0);
            let (from, length) = (record.body() as usize, record.header.data_length as usize);
            let content = match (length, record.backpointer) {
                (0, 0) => Content::Tombstone,
                (0, back) => {
                    let source = at.get(&back).filter(|tid| last.get(&(record.header.oid, **tid)) == Some(&back));
                    source.map_or(WRONG, |tid| Content::Source(*tid))
                }
                _ => Content::Data(bytes[from..from + length].to_vec()),
            };
            revisions.push(Revision {
                oid: record.header.oid.0,
                version: String::new(),
                base: None,
                content,
                blob: None,
            });
            Ok(())
        });
        let header = header.map_err(|fault| format!("{}: {fault}", path.display()))?;
        let mut from = position as usize + vellum_file::format::TransactionHeader::SIZE;
        let lengths = [header.user_length, header.description_length, header.extension_length];
        let [user, description, extension] = lengths.map(|length| {
            from += usize::from(length);
            bytes[from - usize::from(length)..from].to_vec()
        });
        let status = if header.status == b'p' { Status::Packed } else { Status::Complete };
        database.transactions.push(Transaction { tid: header.tid.0, status, user, description, extension, revisions });
        position += header.length + 8;
    }
    Ok(database)
}

/// Makes up transactions.
#[derive(Clone, Debug)]
pub struct Writer {
    pub dice: Dice,
    oids: u64,
    /// One transaction in so many is an undo, one change in so many a deletion.
    undo: u64,
    delete: u64,
    /// Whether objects may refer to one that is nowhere, and to ones that are nothing.
    dangling: bool,
    to_nothing: bool,
    /// Whether several transactions may be undone in one.
    several: bool,
    rootless: bool,
}

impl Writer {
    pub fn new(seed: u64) -> Writer {
        let mut dice = Dice::new(seed);
        Writer {
            oids: dice.pick(&[3, 5, OIDS]),
            undo: dice.pick(&[2, 3, 8, u64::MAX]),
            delete: dice.pick(&[4, 20, u64::MAX]),
            dangling: dice.one_in(12),
            to_nothing: dice.one_in(3),
            several: dice.one_in(3),
            rootless: dice.one_in(15),
            dice,
        }
    }

    /// A transaction that comes next, and may be refused.
    pub fn next(&mut self, database: &Database) -> Commit {
        let first = Tid::at("2024-02-28T12:00:00Z".parse().expect("a moment"));
        let ahead = [1, 2, 1 << 20, 1 << 31, 1 << 33];
        let most = self.dice.pick(&ahead);
        let tid = Tid(database.last_transaction().max(first.0) + 1 + self.dice.below(most));
        let undoable: Vec<Tid> = database.transactions.iter().filter(|t| is_undoable(t)).map(|t| Tid(t.tid)).collect();
        let changes = if !undoable.is_empty() && self.dice.one_in(self.undo) {
            match self.several {
                // What was done last is what can be undone.
                true if self.dice.one_in(3) => undoable.iter().rev().take(2).map(|&tid| Change::Undo { tid }).collect(),
                _ => vec![self.undo(&undoable)],
            }
        } else {
            self.changes(database)
        };
        let mut commit = Commit { tid: Some(tid), changes, ..Commit::default() };
        for n in 0..2 {
            let length = self.dice.pick(&[0, 0, 1, 30]);
            commit.meta[n] = self.dice.bytes(length).into();
        }
        commit
    }

    fn undo(&mut self, undoable: &[Tid]) -> Change {
        let recent = undoable.len().saturating_sub(self.dice.pick(&[1, 2, 5, 100]));
        Change::Undo { tid: undoable[recent + self.dice.below((undoable.len() - recent) as u64) as usize] }
    }

    fn changes(&mut self, database: &Database) -> Vec<Change> {
        let (mut left, mut changes) = ((0..self.oids).map(Oid).collect::<Vec<_>>(), Vec::new());
        let newest = |oid: Oid| database.newest(oid.0);
        let is_something = |oid: Oid| newest(oid).is_some_and(|at| database.data(at).is_some());
        let there: Vec<Oid> = database.oids().into_iter().map(Oid).collect();
        let mut known: Vec<Oid> = there.into_iter().filter(|oid| self.to_nothing || is_something(*oid)).collect();
        for n in 0..self.dice.pick(&[0, 1, 1, 2, 3, 4]) {
            let first = (n == 0 && self.dice.one_in(3)) || (newest(Oid::ROOT).is_none() && !self.rootless);
            let at = if first { 0 } else { self.dice.below(left.len() as u64) as usize };
            let oid = left.remove(at);
            let serial = newest(oid).map_or(Tid::ZERO, |at| Tid(at.tid()));
            if serial != Tid::ZERO && self.dice.one_in(self.delete) && (oid != Oid::ROOT || self.rootless) {
                known.retain(|other| *other != oid || self.to_nothing);
                changes.push(Change::Delete { oid, serial });
            } else {
                known.push(oid);
                changes.push(Change::Store { oid, serial, data: self.node(&known).encode() });
            }
            if left.is_empty() {
                break;
            }
        }
        changes
    }

    fn node(&mut self, known: &[Oid]) -> Node {
        let some =
            |counts: &[u64], dice: &mut Dice| (0..dice.pick(counts)).map(|_| dice.pick(known)).collect::<Vec<Oid>>();
        let mut strong = some(&[0, 0, 1, 1, 2, 3], &mut self.dice);
        if self.dangling && self.dice.one_in(10) {
            strong.push(NOWHERE);
        }
        let weak = some(&[0, 0, 0, 1], &mut self.dice);
        let foreign = some(&[0, 0, 0, 0, 1], &mut self.dice);
        Node {
            counter: false,
            number: self.dice.below(256) as u8,
            strong,
            weak,
            foreign,
            odd: Vec::new(),
            ..Node::default()
        }
    }

    /// A time to pack to: of a transaction, between two, now, or before all of them.
    pub fn time(&mut self, database: &Database) -> Tid {
        let tids: Vec<u64> = database.transactions.iter().map(|transaction| transaction.tid).collect();
        let n = self.dice.below(tids.len() as u64) as usize;
        match self.dice.below(16) {
            0 => Tid(tids[0] - 1),
            1..4 => Tid::at("2030-01-01T00:00:00Z".parse().expect("a moment")),
            4..8 if n + 1 < tids.len() => Tid(tids[n] + (tids[n + 1] - tids[n]) / 2),
            _ => Tid(tids[n]),
        }
    }
}

/// Transactions that wrote an object twice are left alone, as ZODB takes them back record by record.
fn is_undoable(transaction: &Transaction) -> bool {
    let written = transaction.oids().len();
    transaction.status == Status::Complete && written > 0 && written == transaction.revisions.len()
}

/// A database in a few lines: what each transaction wrote.
pub fn show(database: &Database) -> String {
    let mut lines = String::new();
    for transaction in &database.transactions {
        let mark = if transaction.status == Status::Packed { " p" } else { "" };
        let content = |content: &Content| match content {
            Content::Tombstone => "nothing".to_owned(),
            Content::Source(tid) => format!("= {tid:016x}"),
            Content::Data(data) => Node::decode(data).map_or("?".to_owned(), |node| node.to_string()),
        };
        let written = transaction.revisions.iter().map(|r| format!("{}: {}", r.oid, content(&r.content)));
        lines += &format!("  {:016x}{mark}  {}\n", transaction.tid, written.collect::<Vec<_>>().join("; "));
    }
    lines
}
