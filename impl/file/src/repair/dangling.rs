//! Dangling references, with their story: the objects that hold them, since when, and the rest of the lost object.
//!
//! Three walks over the file, from its beginning to its end; so a broken chain or index hides nothing.
//!
//! 1. The records that count now (each object's newest, and the trunk's under one in a version) are read for references
//!    to objects that are not there.
//! 2. Of the objects that were found to refer to one, and of those that are lost, every record is looked at again, the
//!    oldest one first:
//!
//! ```text
//!   holder    ─[has it]──[has it not]──[has it]──[has it]─▶      since: the third, the first of an unbroken row
//!   lost      ────[data]────[data]────────(tombstone)─────▶      last: the second; ended: that of the tombstone
//! ```
//! 3. For missing objects, damaged parts of the file are searched for bytes that look like their records: often one
//!    wrong byte in a header loses a transaction, and its records are intact.
//!
//! User and description are read for those transactions only.
//!
//! Memory: some 200 bytes for each reference of which the story is told, which are so many at most as is said; the rest
//! is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use vellum_pickle::Reference;
use vellum_storage::{Bytes, Oid, Result, Status, Tid, Version};

use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{START, u64_at};
use crate::options::Options;
use crate::read::index::Index;
use crate::read::log::{Holders, Log};

/// An object that is referred to and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostObject {
    /// The object.
    pub oid: Oid,
    /// The transaction that deleted it, or undid its creation. None if there is no record of it in the file.
    pub ended: Option<Change>,
    /// Its last state, as far as it is left.
    pub last: Option<LastData>,
    /// The objects that refer to it, in the order of the oids. Not empty.
    pub holders: Vec<Holder>,
}

/// The newest revision of a lost object that has data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastData {
    /// The revision.
    pub tid: Tid,
    /// Where the record is that has the data.
    pub position: u64,
    /// Where its data begins.
    pub data_position: u64,
    /// How many bytes of data.
    pub bytes: u64,
    /// The object's class, if it can be read.
    pub class: Option<String>,
    /// The version that it was in.
    pub version: Version,
    /// Whether it lies in a part of the file that is damaged: then it looks like a record of the object, and nothing
    /// vouches for it.
    pub is_damaged: bool,
}

/// A record that counts now and refers to a lost object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The object.
    pub oid: Oid,
    /// The class of that object, if it can be read.
    pub class: Option<String>,
    /// The version that the record is in.
    pub version: Version,
    /// The revision.
    pub tid: Tid,
    /// The transaction since which every revision of the object has had the reference. If that is packed, it may have
    /// had it longer.
    pub since: Change,
}

/// A transaction: its user and description.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Which one.
    pub tid: Tid,
    /// Where it is.
    pub position: u64,
    /// Its status.
    pub status: Status,
    /// The user.
    pub user: Bytes,
    /// The description.
    pub description: Bytes,
    /// Anything else: a pickled dict.
    pub extension: Bytes,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dangling {
    /// How many references of records that count now lead to objects that are not there; several from one record to one
    /// object are one.
    pub references: u64,
    /// The objects, in the order of the oids: those of the references of which the story is told.
    pub objects: Vec<LostObject>,
    /// How many records that count now do not say what they refer to: they cannot be read, or a persistent id in them
    /// has an unknown shape.
    pub untold_records: u64,
    /// How many bytes of the file cannot be read as transactions, so that references in them are not known.
    pub damaged_bytes: u64,
}

/// The results of the check before.
pub(crate) struct Known<'a> {
    pub log: &'a Log,
    pub size: u64,
    /// Parts of the file that can be read.
    pub parts: &'a [(u64, u64)],
    /// The damaged parts.
    pub damaged: &'a [(u64, u64)],
    pub index: &'a Index,
    /// Deleted objects.
    pub nothing: &'a HashSet<Oid>,
    /// For objects that are in a version, the trunk's record under that; 0 if there is none.
    pub under: &'a HashMap<Oid, u64>,
}

/// A reference of which the story is told.
struct Story {
    to: Oid,
    holder: Oid,
    class: Option<String>,
    version: Version,
    tid: Tid,
    /// Of the trunk's record under one in a version only the trunk's past counts.
    trunk_only: bool,
    /// Where the record is, and its transaction.
    position: u64,
    transaction: u64,
    /// The transaction with which the row begins.
    since: Option<u64>,
}

#[derive(Default)]
struct Past {
    ended: Option<u64>,
    /// The record, and the position of the one that has its data.
    last: Option<(Record, u64)>,
    is_damaged: bool,
}

/// Finds out about at most so many references.
pub(crate) fn find(known: &Known<'_>, options: &Options, at_most: u64) -> Result<Dangling> {
    let mut finder = Finder {
        known,
        options,
        scanner: vellum_pickle::Scanner::new(),
        holders: Holders::default(),
        lost_under: HashMap::new(),
        untold: 0,
    };
    let (references, mut stories) = finder.now(at_most)?;
    let mut pasts: BTreeMap<Oid, Past> = stories.iter().map(|story| (story.to, Past::default())).collect();
    if !stories.is_empty() {
        finder.past(&mut stories, &mut pasts)?;
        finder.search(&mut pasts)?;
    }
    stories.sort_by_key(|story| (story.to, story.holder, story.trunk_only));
    let mut objects = Vec::new();
    for (oid, past) in pasts {
        let first = stories.partition_point(|story| story.to < oid);
        let end = stories.partition_point(|story| story.to <= oid);
        let holders = stories[first..end].iter().map(|story| finder.holder(story)).collect::<Result<_>>()?;
        let ended = past.ended.map(|transaction| finder.change(transaction)).transpose()?;
        let last = past.last.map(|(record, at)| finder.last(&record, at, past.is_damaged));
        objects.push(LostObject { oid, ended, last, holders });
    }
    let damaged_bytes = known.damaged.iter().map(|(from, to)| to - from).sum();
    Ok(Dangling { references, objects, untold_records: finder.untold, damaged_bytes })
}

struct Finder<'a> {
    known: &'a Known<'a>,
    options: &'a Options,
    scanner: vellum_pickle::Scanner,
    holders: Holders,
    /// For objects that are nothing in a version: whether the trunk does not have them either.
    lost_under: HashMap<Oid, bool>,
    /// Records that count now and do not say what they refer to.
    untold: u64,
}

impl Finder<'_> {
    /// Gives every record that can be read, in the order of the file.
    fn walk(&mut self, done: u64, each: &mut dyn FnMut(&mut Self, &Record)) -> Result<()> {
        let Known { log, size, parts, .. } = *self.known;
        let mut scanner = Scanner::new(&*log.file, size);
        let (mut records, mut transactions) = (Vec::new(), 0_u64);
        for &(from, to) in parts {
            let mut position = from;
            while position < to {
                records.clear();
                let walked = scanner.transaction(position, |_, record| {
                    records.push(record);
                    Ok(())
                });
                let changed = "It could be read a moment ago: the file changed while it was checked";
                let header = walked.map_err(|fault| fault.damage(&log.path, changed))?;
                records.iter().for_each(|record| each(self, record));
                position = header.end(position);
                transactions += 1;
                if let (Some(progress), 0) = (&self.options.progress, transactions % 256) {
                    progress(done * size / 2 + position / 2, size);
                }
            }
        }
        Ok(())
    }

    /// Where the data of the record is; none for a tombstone, or if that cannot be found.
    fn data_at(&mut self, record: &Record) -> Option<u64> {
        if record.header.data_length > 0 {
            return Some(record.position);
        }
        let Known { log, size, .. } = *self.known;
        self.holders.find(log, record.header.oid, record.backpointer, size).ok().filter(|position| *position != 0)
    }

    /// The record's data, its own or shared; none for a tombstone or unreadable data, which the check reports.
    fn data(&mut self, record: &Record) -> Option<Bytes> {
        let at = self.data_at(record)?;
        let Known { log, size, .. } = *self.known;
        match at == record.position {
            true => log.own_data(record).ok(),
            false => log.record(record.header.oid, at, size).ok()?.1,
        }
    }

    /// Whether the record has no data, and shares none.
    fn is_tombstone(&mut self, record: &Record) -> bool {
        let Known { log, size, .. } = *self.known;
        record.header.data_length == 0
            && matches!(self.holders.find(log, record.header.oid, record.backpointer, size), Ok(0))
    }

    /// Whether the object exists neither on the trunk nor in a version.
    fn is_lost(&mut self, oid: Oid) -> bool {
        if self.known.index.get(oid).is_none() {
            return true;
        }
        if !self.known.nothing.contains(&oid) {
            return false;
        }
        match self.known.under.get(&oid).copied() {
            None | Some(0) => true,
            Some(under) => {
                let Finder { known: Known { log, size, .. }, holders, lost_under, .. } = self;
                let is_lost = || matches!(holders.find(log, oid, under, *size), Ok(0));
                *lost_under.entry(oid).or_insert_with(is_lost)
            }
        }
    }

    /// The lost objects that the data refers to, as far as that can be told, and whether all of it can.
    fn lost_in(&mut self, data: &[u8]) -> (BTreeSet<Oid>, bool) {
        let mut refers = BTreeSet::new();
        let scanned = self.scanner.scan_all(data, |reference| {
            if let Reference::Strong { oid, .. } = reference {
                refers.insert(Oid(oid));
            }
        });
        refers.retain(|oid| self.is_lost(*oid));
        (refers, scanned.is_ok())
    }

    /// The first walk: the references that dangle now. Returns their number, and the stories to tell.
    fn now(&mut self, at_most: u64) -> Result<(u64, Vec<Story>)> {
        let (mut references, mut stories) = (0, Vec::new());
        self.walk(0, &mut |finder, record| {
            let oid = record.header.oid;
            let is_newest = finder.known.index.get(oid) == Some(record.position);
            let is_under = finder.known.under.get(&oid) == Some(&record.position);
            if !is_newest && !is_under {
                return;
            }
            let Some(data) = finder.data(record) else {
                finder.untold += u64::from(!finder.is_tombstone(record));
                return;
            };
            let (lost, is_all) = finder.lost_in(&data);
            finder.untold += u64::from(!is_all);
            for to in lost {
                references += 1;
                if references <= at_most {
                    let class = vellum_pickle::class_of(&data).ok().map(|class| class.to_string());
                    stories.push(Story {
                        to,
                        holder: oid,
                        class,
                        version: record.version(),
                        tid: record.header.tid,
                        trunk_only: is_under,
                        position: record.position,
                        transaction: record.header.transaction,
                        since: None,
                    });
                }
            }
        })?;
        Ok((references, stories))
    }

    /// The second walk: since when, and what was.
    fn past(&mut self, stories: &mut [Story], pasts: &mut BTreeMap<Oid, Past>) -> Result<()> {
        let mut held_by: HashMap<Oid, Vec<usize>> = HashMap::new();
        for (n, story) in stories.iter().enumerate() {
            held_by.entry(story.holder).or_default().push(n);
        }
        self.walk(1, &mut |finder, record| {
            let oid = record.header.oid;
            if let Some(past) = pasts.get_mut(&oid) {
                match finder.data_at(record) {
                    Some(at) => *past = Past { last: Some((record.clone(), at)), ..Past::default() },
                    None => past.ended = past.ended.or(Some(record.header.transaction)),
                }
            }
            let Some(held) = held_by.get(&oid) else { return };
            let refers = finder.data(record).map(|data| finder.lost_in(&data).0).unwrap_or_default();
            for &story in held {
                let story = &mut stories[story];
                // A copy can say that something older than the trunk's last record is under one in a version.
                if record.position > story.position || (story.trunk_only && record.in_version.is_some()) {
                    continue;
                }
                let here = record.header.transaction;
                story.since = refers.contains(&story.to).then(|| story.since.unwrap_or(here));
            }
        })
    }

    fn holder(&self, story: &Story) -> Result<Holder> {
        let Story { holder: oid, tid, transaction, since, .. } = *story;
        let (class, version) = (story.class.clone(), story.version.clone());
        // There is none if the record could be read once and not again.
        Ok(Holder { oid, class, version, tid, since: self.change(since.unwrap_or(transaction))? })
    }

    /// User and description of the transaction at this position.
    fn change(&self, position: u64) -> Result<Change> {
        let (header, [user, description, extension]) = self.known.log.transaction(position, self.known.size)?;
        // A transaction that a crash kept from being marked counts as finished here.
        let status = Status::from_byte(header.status).unwrap_or_default();
        Ok(Change { tid: header.tid, position, status, user, description, extension })
    }

    fn last(&mut self, record: &Record, at: u64, is_damaged: bool) -> LastData {
        let data = self.data(record);
        let bytes = data.as_ref().map_or(0, |data| data.len() as u64);
        let Known { log, size, .. } = *self.known;
        let holder = Scanner::new(&*log.file, size).record(at, size);
        LastData {
            tid: record.header.tid,
            position: at,
            data_position: holder.map_or(at, |holder| holder.body()),
            bytes,
            class: data.and_then(|data| vellum_pickle::class_of(&data).ok().map(|class| class.to_string())),
            version: record.version(),
            is_damaged,
        }
    }

    /// The third walk: looks at every byte of the damaged parts for records of missing objects, and takes the newest
    /// one of each object.
    fn search(&mut self, pasts: &mut BTreeMap<Oid, Past>) -> Result<()> {
        const CHUNK: u64 = 64 << 10;
        let nowhere = |past: &Past| past.ended.is_none() && past.last.is_none();
        let wanted: HashSet<u64> = pasts.iter().filter(|(_, past)| nowhere(past)).map(|(oid, _)| oid.0).collect();
        let Known { log, damaged, .. } = *self.known;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut buffer = vec![0; CHUNK as usize + 7];
        for &(from, to) in damaged {
            for at in (from..to).step_by(CHUNK as usize) {
                let there = (to - at).min(buffer.len() as u64) as usize;
                // An unreadable part holds nothing that could be brought back.
                let Ok(filled) = log.file.read_full_at(&mut buffer[..there], at) else { continue };
                for (offset, window) in buffer[..filled].windows(8).enumerate() {
                    let oid = u64_at(window, 0);
                    if !wanted.contains(&oid) {
                        continue;
                    }
                    let Some(record) = self.looks_like_record(at + offset as u64, to) else { continue };
                    let Some(past) = pasts.get_mut(&Oid(oid)) else { continue };
                    if past.last.as_ref().is_none_or(|(other, _)| other.header.tid <= record.header.tid) {
                        *past = Past { ended: None, last: Some((record, at + offset as u64)), is_damaged: true };
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether what stands there could be a record: it points backwards, ends in the damaged part, and holds two
    /// pickles.
    fn looks_like_record(&mut self, position: u64, end: u64) -> Option<Record> {
        let record = Scanner::new(&*self.known.log.file, end).record(position, end).ok()?;
        let header = &record.header;
        let backwards = header.transaction < position && header.transaction >= START && header.previous < position;
        if !backwards || header.tid == Tid::ZERO || header.data_length == 0 {
            return None;
        }
        let data = self.known.log.own_data(&record).ok()?;
        vellum_pickle::class_of(&data).ok()?;
        self.scanner.scan(&data, |_| ()).ok()?;
        Some(record)
    }
}
