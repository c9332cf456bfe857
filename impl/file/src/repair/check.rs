//! Checking everything that can be checked.
//!
//! Two walks: the first, over the headers, finds all records, and whether every pointer leads where it should; the
//! second reads all data, and follows each reference to see whether its object is there. After damage, the walk
//! continues at the next complete transaction.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use vellum_pickle::Reference;
use vellum_storage::{Error, Oid, Result, Tid};

use crate::format::fault::{Fault, FaultKind};
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{START, UNFINISHED};
use crate::journal::{JournalState, LeftJournal};
use crate::open::{Broken, Found, Walk, Whole, open_to_read, pointers};
use crate::options::{OpenError, Options};
use crate::read::index::Index;
use crate::read::index_file::{self, Missing};
use crate::read::log::{Holders, Log};
use crate::repair::dangling::{self, Dangling, Known};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where, in bytes from the start of the file.
    pub position: u64,
    /// The transaction, where that can be told.
    pub tid: Option<Tid>,
    /// The object, where it is about one.
    pub oid: Option<Oid>,
    /// The problem.
    pub kind: ProblemKind,
}

/// The problems that a database can have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Bytes that break the format.
    Format(FaultKind),
    /// From here on nothing could be read, up to the next whole transaction or the end of the file.
    Skipped {
        /// How many bytes.
        bytes: u64,
    },
    /// The end of the file holds a commit that never finished; opening the file for writing cuts it off.
    UnfinishedEnd {
        /// How many bytes.
        bytes: u64,
    },
    /// The record that came before this one was lost: it lay in an unreadable part of the file.
    PastLost {
        /// Where it was.
        named: u64,
    },
    /// The record's class or state is no pickle.
    Pickle(String),
    /// The record refers to an object that is not in the file.
    Missing {
        /// The object that is not there.
        oid: Oid,
    },
    /// The record refers to a deleted object, or to one whose creation was undone.
    Nothing {
        /// The deleted object.
        oid: Oid,
    },
    /// A persistent id that is none of the known kinds.
    BadReference(String),
    /// The journal beside the file cannot be applied to it. It holds acknowledged transactions.
    Journal(LeftJournal),
    /// The `.index` file has objects in a part that the file has not any more.
    IndexBeyond(Missing),
    /// The `.index` file claims to belong to this file, and says something else. Remove it: it is made again.
    IndexDiffers {
        /// Where the index says that the object's newest record is.
        named: u64,
        /// Where it is; 0 if the object is not in the file.
        found: u64,
    },
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProblemKind::Format(kind) => kind.fmt(f),
            ProblemKind::Skipped { bytes } => write!(f, "{bytes} bytes cannot be read as transactions"),
            ProblemKind::UnfinishedEnd { bytes } => write!(
                f,
                "the last {bytes} bytes are a commit that never finished; opening the file for writing cuts them off"
            ),
            ProblemKind::PastLost { named } => {
                write!(f, "the object's record before this, at {named}, lies in a part that cannot be read")
            }
            ProblemKind::Pickle(why) => write!(f, "the record cannot be read: {why}"),
            ProblemKind::Missing { oid } => write!(f, "refers to object {oid}, which is not in the file"),
            ProblemKind::Nothing { oid } => write!(f, "refers to object {oid}, which is deleted or undone"),
            ProblemKind::BadReference(why) => write!(f, "has a persistent id of an unknown shape: {why}"),
            ProblemKind::Journal(left) => {
                write!(f, "{left}; keep the journal, and see `vellum journal`")
            }
            ProblemKind::IndexBeyond(missing) => {
                write!(f, "{missing}; that part was acknowledged: keep the .index file")
            }
            ProblemKind::IndexDiffers { named, found } => write!(
                f,
                "the .index file has the object at {named}, but it is at {found}; remove that file, it is made again"
            ),
        }
    }
}

/// The extent of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Bytes in the file.
    pub bytes: u64,
    /// Transactions that could be read.
    pub transactions: u64,
    /// Data records in them.
    pub records: u64,
    /// Objects that they belong to.
    pub objects: u64,
    /// Those of them that are deleted now.
    pub nothing: u64,
    /// References followed.
    pub references: u64,
    /// References into other databases, which cannot be followed here.
    pub foreign_references: u64,
    /// Records that are encrypted (cipher.encryptingstorage): their contents cannot be checked.
    pub encrypted: u64,
    /// Transactions that are in the journal, and not wholly in the file: the next opening for writing completes it.
    pub only_journaled: u64,
    /// Problems found.
    pub problems: u64,
    /// The last transaction.
    pub last: Tid,
}

/// Checks the database at `path` without changing it, and gives each problem to `each` as it is found.
pub fn check(options: &Options, path: impl AsRef<Path>, each: &mut dyn FnMut(Problem)) -> Result<Check, OpenError> {
    Ok(check_all(options, path.as_ref(), None, each)?.0)
}

/// The same; and of the references that lead nowhere now, tells the story of so many at most.
///
/// Costs two walks more: one that reads what the objects are now, and if something was found, one that reads the past
/// of those that are concerned.
pub fn check_references(
    options: &Options,
    path: impl AsRef<Path>,
    stories_max: u64,
    each: &mut dyn FnMut(Problem),
) -> Result<(Check, Dangling), OpenError> {
    check_all(options, path.as_ref(), Some(stories_max), each)
}

fn check_all(
    options: &Options,
    path: &Path,
    stories_max: Option<u64>,
    each: &mut dyn FnMut(Problem),
) -> Result<(Check, Dangling), OpenError> {
    let (file, journal) = open_to_read(&*options.disk, path)?;
    let size = file.len().map_err(|e| Error::io(path, "asking for the length", e))?;
    let log = Log { path: path.to_owned(), file };
    let mut problems = 0;
    let mut report = |problem| {
        problems += 1;
        each(problem);
    };
    let only_journaled = journal.as_ref().map_or(0, |left| match left.state {
        JournalState::Needed { .. } => left.transactions.len() as u64,
        _ => 0,
    });
    let mut structure = Structure {
        options,
        log: &log,
        size,
        holders: Holders::default(),
        index: Index::new(),
        nothing: HashSet::new(),
        under: HashMap::new(),
        lost: Vec::new(),
        starts: Vec::new(),
        counts: Check { bytes: size, only_journaled, ..Check::default() },
    };
    if let Some(left) = journal.filter(LeftJournal::is_refused) {
        report(Problem { position: left.position, tid: None, oid: None, kind: ProblemKind::Journal(left) });
    }
    structure.walk(&mut report)?;
    let Structure { index, nothing, under, lost, starts, mut counts, .. } = structure;
    let mut contents = Contents {
        log: &log,
        size,
        index: &index,
        nothing: &nothing,
        scanner: Default::default(),
        holders: Holders::default(),
    };
    for &(from, to) in &starts {
        contents.walk(options, from, to, &mut counts, &mut report)?;
    }
    let end = starts.last().map_or(START, |(_, to)| *to);
    // If the end is damaged, the last part is empty, and lies behind it.
    let end = lost.last().filter(|(_, to)| *to == size).map_or(end, |(from, _)| *from);
    if let Some(missing) = index_file::missing(&*options.disk, path, &*log.file, end) {
        let kind = ProblemKind::IndexBeyond(missing);
        report(Problem { position: end, tid: None, oid: None, kind });
    } else if let Some(saved) = index_file::read(&*options.disk, path, size) {
        saved.differences(&index, &mut |oid, named, found| {
            let kind = ProblemKind::IndexDiffers { named, found };
            report(Problem { position: named, tid: None, oid: Some(oid), kind });
        });
    }
    counts.objects = index.len();
    counts.nothing = nothing.len() as u64;
    counts.problems = problems;
    let known =
        Known { log: &log, size, parts: &starts, damaged: &lost, index: &index, nothing: &nothing, under: &under };
    let dangling = stories_max.map(|at_most| dangling::find(&known, options, at_most)).transpose()?;
    Ok((counts, dangling.unwrap_or_default()))
}

/// The first walk.
struct Structure<'a> {
    options: &'a Options,
    log: &'a Log,
    size: u64,
    holders: Holders,
    index: Index,
    /// Deleted objects.
    nothing: HashSet<Oid>,
    /// For objects that are in a version: the trunk's record under that.
    under: HashMap<Oid, u64>,
    /// Unreadable parts of the file.
    lost: Vec<(u64, u64)>,
    /// Parts that can: where the first transaction starts, and where the last one ends.
    starts: Vec<(u64, u64)>,
    counts: Check,
}

impl Structure<'_> {
    fn walk(&mut self, report: &mut dyn FnMut(Problem)) -> Result<()> {
        let mut walk = Walk::new(&*self.log.file, self.size, (START, Tid::ZERO));
        let mut part = START;
        let (mut records, mut faults) = (Vec::new(), Vec::new());
        loop {
            records.clear();
            faults.clear();
            let index = &self.index;
            let found = walk.step(|side, header, record| {
                faults.extend(pointers(index, side, header, &record).err());
                records.push(record);
                Ok(())
            });
            let Broken { position, next, .. } = match found {
                None => break,
                Some(Found::Finished(whole) | Found::Unmarked(whole)) => {
                    faults.extend(whole.disorder.clone());
                    faults.extend(unfinished(&whole));
                    faults.drain(..).for_each(|fault| report(self.problem(fault)));
                    self.take(&whole, &records);
                    continue;
                }
                Some(Found::Torn(broken)) => {
                    let bytes = self.size - broken.position;
                    report(problem(&broken.fault, ProblemKind::UnfinishedEnd { bytes }));
                    broken
                }
                Some(Found::Damaged(broken)) => {
                    let Broken { position, fault, next } = &broken;
                    let kind = ProblemKind::Skipped { bytes: next.unwrap_or(self.size) - position };
                    report(problem(fault, ProblemKind::Format(fault.kind.clone())));
                    report(Problem { position: *position, tid: None, oid: None, kind });
                    broken
                }
            };
            self.starts.push((part, position));
            part = next.unwrap_or(self.size);
            self.lost.push((position, part));
        }
        self.starts.push((part, walk.position()));
        self.counts.last = walk.last();
        Ok(())
    }

    /// The problem that a fault is in a transaction that can be read.
    fn problem(&self, fault: Fault) -> Problem {
        let kind = match fault.kind {
            FaultKind::WrongPrevious { named, .. } if self.is_lost(named) => ProblemKind::PastLost { named },
            ref other => ProblemKind::Format(other.clone()),
        };
        problem(&fault, kind)
    }

    /// Notes what a transaction did.
    fn take(&mut self, whole: &Whole, records: &[Record]) {
        self.counts.transactions += 1;
        self.counts.records += records.len() as u64;
        for record in records {
            let oid = record.header.oid;
            self.index.set(oid, record.position);
            match &record.in_version {
                Some(version) => drop(self.under.insert(oid, version.trunk)),
                None if self.under.is_empty() => {}
                None => drop(self.under.remove(&oid)),
            }
            let nothing = record.header.data_length == 0
                && matches!(self.holders.find(self.log, oid, record.backpointer, self.size), Ok(0));
            if nothing {
                self.nothing.insert(oid);
            } else if !self.nothing.is_empty() {
                self.nothing.remove(&oid);
            }
        }
        if let (Some(progress), 0) = (&self.options.progress, self.counts.transactions % 1024) {
            // The second walk takes most of the time.
            progress(whole.header.end(whole.position) / 8, self.size);
        }
    }

    fn is_lost(&self, position: u64) -> bool {
        // They are in order, and there may be many.
        let before = self.lost.partition_point(|&(from, _)| from <= position);
        self.lost[..before].last().is_some_and(|&(_, to)| position < to)
    }
}

fn problem(&Fault { position, tid, oid, .. }: &Fault, kind: ProblemKind) -> Problem {
    Problem { position, tid, oid, kind }
}

/// The fault of a transaction that counts, though it is not marked.
fn unfinished(whole: &Whole) -> Option<Fault> {
    let Whole { position, header, .. } = *whole;
    let fault = Fault { position, tid: Some(header.tid), oid: None, kind: FaultKind::Unfinished };
    (header.status == UNFINISHED).then_some(fault)
}

/// The second walk.
struct Contents<'a> {
    log: &'a Log,
    size: u64,
    index: &'a Index,
    nothing: &'a HashSet<Oid>,
    scanner: vellum_pickle::Scanner,
    holders: Holders,
}

impl Contents<'_> {
    fn walk(
        &mut self,
        options: &Options,
        from: u64,
        to: u64,
        counts: &mut Check,
        report: &mut dyn FnMut(Problem),
    ) -> Result<()> {
        let file = &*self.log.file;
        let mut headers = Scanner::new(file, self.size);
        let (mut position, mut done) = (from, 0_u64);
        let mut records = Vec::new();
        while position < to {
            records.clear();
            let header = headers
                .transaction(position, |_, record| {
                    records.push(record);
                    Ok(())
                })
                .map_err(|fault| {
                    fault.damage(&self.log.path, "It could be read a moment ago: the file changed while it was checked")
                })?;
            for record in &records {
                let problem = |kind| Problem {
                    position: record.position,
                    tid: Some(header.tid),
                    oid: Some(record.header.oid),
                    kind,
                };
                if record.header.data_length == 0 {
                    match self.holders.find(self.log, record.header.oid, record.backpointer, self.size) {
                        Ok(_) => {}
                        Err(Error::Damaged(damage)) => report(problem(ProblemKind::Pickle(damage.what))),
                        Err(e) => report(problem(ProblemKind::Pickle(e.to_string()))),
                    }
                    continue;
                }
                self.record(record, counts, &mut |kind| report(problem(kind)));
            }
            position = header.end(position);
            done += 1;
            if let (Some(progress), 0) = (&options.progress, done % 256) {
                progress(self.size / 8 + position / 8 * 7, self.size);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, counts: &mut Check, report: &mut dyn FnMut(ProblemKind)) {
        let oid = record.header.oid;
        let data = match self.log.own_data(record) {
            Ok(data) => data,
            Err(e) => {
                return report(ProblemKind::Format(FaultKind::Unreadable(e.to_string())));
            }
        };
        if vellum_pickle::is_encrypted(&data) {
            // Not damage: only the holder of the key can tell what it says.
            counts.encrypted += 1;
            return;
        }
        let is_current = self.index.get(oid) == Some(record.position);
        let (index, nothing) = (self.index, self.nothing);
        let mut found = Vec::new();
        if let Err(e) = vellum_pickle::class_of(&data) {
            report(ProblemKind::Pickle(e.to_string()));
            // A pickle that was read and names no class is no reason to pass over the references.
            if !matches!(e.problem, vellum_pickle::Problem::NotAClass(_)) {
                return;
            }
        }
        let scanned = self.scanner.scan(&data, |reference| match reference {
            Reference::Strong { oid, .. } => {
                counts.references += 1;
                let oid = Oid(oid);
                if index.get(oid).is_none() {
                    found.push(ProblemKind::Missing { oid });
                } else if is_current && nothing.contains(&oid) {
                    found.push(ProblemKind::Nothing { oid });
                }
            }
            Reference::Foreign { .. } => counts.foreign_references += 1,
            Reference::Weak { .. } => {}
            Reference::Bad { why, .. } => found.push(ProblemKind::BadReference(why.to_owned())),
        });
        if let Err(e) = scanned {
            report(ProblemKind::Pickle(e.to_string()));
        }
        found.into_iter().for_each(report);
    }
}
