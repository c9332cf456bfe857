//! Where ZODB's pack gives another database than ours: which judged difference it is.

use std::collections::BTreeSet;
use std::path::Path;

use vellum_harness::node::Node;
use vellum_spec::{Content, Database, Status};
use vellum_storage::{Oid, Tid};

use super::history::{OIDS, WRONG, read, show};
use crate::peers::zodb::ZodbError;

/// A kind of difference; docs/findings/filestorage.md says why it is ZODB that does otherwise than the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    LinkedAgain,
    UndoneWithItsParts,
    SeveralUndone,
    NothingLost,
    LastTransaction,
    SourceLost,
    NothingAtTheTime,
    PackedAlready,
    UnderWhatIsLater,
    NoRoot,
    Dangling,
    NothingByUndos,
    AsLongAsBefore,
}

impl Kind {
    pub const ALL: [Kind; 13] = [
        Kind::LinkedAgain,
        Kind::UndoneWithItsParts,
        Kind::SeveralUndone,
        Kind::NothingLost,
        Kind::LastTransaction,
        Kind::SourceLost,
        Kind::NothingAtTheTime,
        Kind::PackedAlready,
        Kind::UnderWhatIsLater,
        Kind::NoRoot,
        Kind::Dangling,
        Kind::NothingByUndos,
        Kind::AsLongAsBefore,
    ];

    /// The finding's number, or some words of the last section of the page.
    pub fn name(self) -> &'static str {
        match self {
            Kind::LinkedAgain => "1",
            Kind::UndoneWithItsParts => "2",
            Kind::SeveralUndone => "3",
            Kind::NothingLost => "7",
            Kind::LastTransaction => "8",
            Kind::SourceLost => "14",
            Kind::NothingAtTheTime => "15",
            Kind::PackedAlready => "16",
            Kind::UnderWhatIsLater => "21",
            Kind::NoRoot => "no root at the time",
            Kind::Dangling => "a reference to an object that is nowhere",
            Kind::NothingByUndos => "undos of undos lead to nothing",
            Kind::AsLongAsBefore => "a file as long as it is",
        }
    }
}

/// A database, the time it is packed to, and what the rules leave of it.
pub struct Case<'a> {
    pub before: &'a Database,
    pub to: Tid,
    pub collect: bool,
    pub rules: &'a Database,
    /// Whether the pack is refused at first, since something needed is nowhere.
    pub refused: bool,
}

/// An object, the transaction of a revision of it, and its data.
type Shown = (u64, u64, Vec<u8>);

/// The same for later revisions, where tombstones count too.
type Later = (u64, u64, Option<Vec<u8>>);

impl Case<'_> {
    /// The reason, with all that there is to see.
    pub fn show(&self, why: &str, theirs: &Path) -> String {
        let left = read(theirs).map_or_else(|why| why.to_string(), |left| show(&left));
        format!("{why}\nbefore:\n{}ours:\n{}ZODB's:\n{left}", show(self.before), show(self.rules))
    }

    /// The content of the object's newest record at the time, if it has one.
    fn newest(&self, oid: u64) -> Option<&Content> {
        self.before.past(oid).into_iter().find(|at| at.tid() <= self.to.0).map(|at| &at.revision.content)
    }

    /// Whether ZODB takes the object for one that is there at the time.
    fn is_there(&self, oid: u64) -> bool {
        self.newest(oid).is_some_and(|content| *content != Content::Tombstone)
    }

    /// Whether there is a root at the time, of which ZODB can ask what it refers to.
    pub fn has_root(&self) -> bool {
        let newest = self.before.past(0).into_iter().find(|at| at.tid() <= self.to.0);
        newest.is_some_and(|at| self.before.data(at).is_some())
    }

    /// The objects to name to ZODB so that its result is that of the rules: those that the rules need, and those that
    /// are deleted at the time, at which it would stop.
    pub fn help(&self) -> (Vec<Oid>, Vec<Oid>) {
        let packed = self.rules.transactions.iter().filter(|transaction| transaction.tid <= self.to.0);
        let kept: BTreeSet<u64> = packed.flat_map(|transaction| transaction.oids()).collect();
        let also = kept.into_iter().filter(|oid| self.is_there(*oid)).map(Oid).collect();
        let mut all: BTreeSet<u64> = (0..OIDS).collect();
        all.extend(self.every(|_| true).flat_map(|(_, _, data)| Node::references(&data)));
        (also, all.into_iter().filter(|oid| !self.is_there(*oid)).map(Oid).collect())
    }

    /// Every revision with data of its own.
    fn every(&self, which: impl Fn(u64) -> bool) -> impl Iterator<Item = Shown> {
        let some = self.before.transactions.iter().filter(move |transaction| which(transaction.tid));
        some.flat_map(|transaction| {
            transaction.revisions.iter().filter_map(|revision| match &revision.content {
                Content::Data(data) => Some((revision.oid, transaction.tid, data.clone())),
                _ => None,
            })
        })
    }

    /// The sources of later revisions.
    fn sources(&self) -> BTreeSet<(u64, u64)> {
        let later = self.before.transactions.iter().filter(|transaction| transaction.tid > self.to.0);
        let named =
            later.flat_map(|transaction| &transaction.revisions).filter_map(|revision| match revision.content {
                Content::Source(tid) if tid <= self.to.0 => Some((revision.oid, tid)),
                _ => None,
            });
        named.collect()
    }

    fn data(&self, oid: u64, tid: u64) -> Option<&[u8]> {
        self.before.at(oid, tid).and_then(|at| self.before.data(at))
    }

    /// All that these lead to at the time.
    fn reach(&self, from: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        self.reach_beside(from, &BTreeSet::new())
    }

    /// The same, where some objects are not looked at.
    fn reach_beside(&self, from: impl IntoIterator<Item = u64>, seen: &BTreeSet<u64>) -> BTreeSet<u64> {
        let (mut found, mut next) = (BTreeSet::new(), Vec::from_iter(from));
        while let Some(oid) = next.pop() {
            let newest = self.before.past(oid).into_iter().find(|at| at.tid() <= self.to.0);
            if !seen.contains(&oid)
                && found.insert(oid)
                && let Some(data) = newest.and_then(|at| self.before.data(at))
            {
                next.extend(Node::references(data));
            }
        }
        found
    }

    /// The objects that ZODB also marks: those reachable from the root, their sources, and the objects reachable from
    /// these. But if it has kept only a source of an object, it takes the object for visited (2).
    fn sought(&self) -> BTreeSet<u64> {
        let mut sought =
            if self.collect { self.reach([0]) } else { (0..OIDS).filter(|oid| self.is_there(*oid)).collect() };
        let (of_sought, others): (Vec<_>, Vec<_>) =
            self.sources().into_iter().partition(|(oid, _)| sought.contains(oid));
        let seen = others.into_iter().map(|(oid, _)| oid).collect();
        for (oid, tid) in of_sought {
            let refers = self.data(oid, tid).map(Node::references).unwrap_or_default();
            sought.extend(self.reach_beside(refers, &seen));
        }
        sought
    }

    /// Why ZODB does not keep what the rules keep of this object; none, if it should have.
    fn lost(&self, oid: u64) -> Option<Kind> {
        if self.sought().contains(&oid) {
            return None;
        }
        let later: BTreeSet<u64> =
            self.every(|tid| tid > self.to.0).flat_map(|(_, _, data)| Node::references(&data)).collect();
        let sources = self.sources();
        let of_sources = sources.iter().filter_map(|&(oid, tid)| self.data(oid, tid)).flat_map(Node::references);
        let after = self.before.transactions.iter().filter(|transaction| transaction.tid > self.to.0);
        let changed: BTreeSet<u64> = after.flat_map(|transaction| transaction.oids()).collect();
        let kinds = [
            (Kind::LinkedAgain, self.reach(later)),
            (Kind::UndoneWithItsParts, self.reach(of_sources)),
            (Kind::UnderWhatIsLater, self.reach(changed)),
        ];
        kinds.into_iter().find(|(_, objects)| objects.contains(&oid)).map(|(kind, _)| kind)
    }

    /// Whether a later revision shares its data with a transaction that has several records of the object.
    fn has_several(&self) -> bool {
        let all = self.before.transactions.iter();
        let mut named =
            all.flat_map(|transaction| &transaction.revisions).filter_map(|revision| match revision.content {
                Content::Source(tid) => Some((revision.oid, tid)),
                _ => None,
            });
        named.any(|(oid, tid)| {
            let source = self.before.transactions.iter().find(|transaction| transaction.tid == tid);
            source.is_some_and(|source| source.revisions.iter().filter(|revision| revision.oid == oid).count() > 1)
        })
    }

    /// The visible revisions of a database: of the packed ones, those with data; of the later ones, all.
    fn shown(&self, database: &Database) -> (BTreeSet<Shown>, Vec<Later>) {
        let (mut packed, mut later) = (BTreeSet::new(), Vec::new());
        for transaction in &database.transactions {
            for revision in &transaction.revisions {
                let content = vellum_spec::At { transaction, revision };
                let data = database.data(content).map(<[u8]>::to_vec);
                match data {
                    data if transaction.tid > self.to.0 => later.push((revision.oid, transaction.tid, data)),
                    Some(data) => drop(packed.insert((revision.oid, transaction.tid, data))),
                    None => {}
                }
            }
        }
        (packed, later)
    }

    /// Which difference it is that ZODB, packing with collection or without, gives up with this error.
    pub fn of_error(&self, error: &ZodbError, collect: bool) -> Option<Kind> {
        match error.class()? {
            "KeyError" if !collect => None,
            "KeyError" if self.refused => Some(Kind::Dangling),
            "KeyError" if !self.has_root() => Some(Kind::NoRoot),
            "KeyError" => {
                let mut referred = self.every(|tid| tid <= self.to.0).flat_map(|(_, _, data)| Node::references(&data));
                referred.any(|to| !self.is_there(to)).then_some(Kind::NothingAtTheTime)
            }
            "PackError" | "AssertionError" if self.has_several() => Some(Kind::SeveralUndone),
            "PackError" | "AssertionError" if !collect => {
                let older = |(oid, tid): &(u64, u64)| {
                    let newest = self.before.past(*oid).into_iter().find(|at| at.tid() <= self.to.0);
                    newest.is_none_or(|at| at.tid() != *tid || at.revision.content == Content::Tombstone)
                };
                self.sources().iter().any(older).then_some(Kind::SourceLost)
            }
            _ => None,
        }
    }

    /// Which difference there is between what ZODB left, and ours, which is what the rules leave. `unchanged`: ZODB
    /// left the file as it was; `as_long`: ours is as long as that.
    pub fn of_files(&self, zodbs: &Database, unchanged: bool, as_long: bool) -> Result<Kind, String> {
        let (theirs, ours) = (self.shown(zodbs), self.shown(self.rules));
        let mut written = zodbs.transactions.iter().flat_map(|transaction| &transaction.revisions);
        if theirs.1 != ours.1 || written.any(|revision| revision.content == WRONG) {
            return if self.has_several() { Ok(Kind::SeveralUndone) } else { Err("later revisions differ".to_owned()) };
        }
        if unchanged && self.before.transactions.iter().all(|transaction| transaction.status == Status::Packed) {
            return Ok(Kind::PackedAlready);
        }
        if unchanged && as_long {
            return Ok(Kind::AsLongAsBefore);
        }
        if let Some((oid, tid, _)) = theirs.0.difference(&ours.0).next() {
            return Err(format!("ZODB alone keeps {oid:x} of {tid:016x}"));
        }
        let lost: BTreeSet<u64> = ours.0.difference(&theirs.0).map(|(oid, ..)| *oid).collect();
        let mut kinds = BTreeSet::new();
        for oid in lost {
            kinds.insert(self.lost(oid).ok_or_else(|| format!("ZODB lost {oid:x}, which it knows to be needed"))?);
        }
        if let Some(kind) = kinds.first() {
            return Ok(*kind);
        }
        // The difference consists of tombstones only.
        let nothing = |database: &Database| -> BTreeSet<(u64, u64)> {
            let packed = database.transactions.iter().filter(|transaction| transaction.tid <= self.to.0);
            packed
                .flat_map(|t| t.revisions.iter().map(|r| (r.oid, t.tid, &r.content)))
                .filter_map(|(oid, tid, content)| (*content == Content::Tombstone).then_some((oid, tid)))
                .collect()
        };
        let (theirs, ours) = (nothing(zodbs), nothing(self.rules));
        let by_undos = |(oid, tid): &(u64, u64)| {
            self.before.at(*oid, *tid).is_some_and(|at| at.revision.content != Content::Tombstone)
        };
        if !theirs.difference(&ours).all(by_undos) {
            return Err("ZODB alone keeps what is nothing".to_owned());
        }
        let last = self.rules.transactions.last().filter(|last| last.revisions.is_empty() && last.tid <= self.to.0);
        match () {
            () if !ours.is_subset(&theirs) => Ok(Kind::NothingLost),
            () if last.is_some() && zodbs.last_transaction() != self.rules.last_transaction() => {
                Ok(Kind::LastTransaction)
            }
            () if ours != theirs => Ok(Kind::NothingByUndos),
            () => Err("the same is kept, in other bytes".to_owned()),
        }
    }
}
