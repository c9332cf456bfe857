//! The file at the moment of a pack, as the collector asks about it.
//!
//! Transactions are in the order of their tids, so "not later than the pack's time" is "before a position", the
//! *boundary*. A revision's place is its record's position. The newest one of an object before the boundary is where
//! the index says, if that is before it; and if not, the chain leads there:
//!
//! ```text
//!                        boundary              end of the moment
//!   ··· a ······ b ········ │ ··· b ····· b ········ │ ··· b ···
//!       ▲        ▲                                         ▲
//!    index       └──────────── previous ────────────────── index
//! ```
//!
//! Chains may be long, so their ends are remembered. Later commits do not change them.

use std::collections::HashSet;
use std::sync::Arc;

use vellum_storage::{
    AtPlace, Collected, Content, EachPlace, Later, Oid, Order, Own, Place, Refers, Result, Status, Tid,
};

use crate::format::fault::{Fault, FaultKind};
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{MAGIC, RecordHeader, START, TransactionHeader};
use crate::open;
use crate::read::generation::Generation;
use crate::read::index::Index;
use crate::read::iterate;
use crate::read::log::{Holders, Past};
use crate::write::pledge::Pledge;

/// Where an object had nothing before the boundary. No record can be there.
const NOWHERE: Place = 1;

/// Records that are not much farther apart are read at once, and at most so many bytes.
const GAP: u64 = 8 << 10;
const WINDOW: usize = 64 << 10;

/// The bytes that a read takes of a record, if the next one is far away.
const FIRST: u64 = 4 << 10;

pub(super) struct Moment<'a> {
    pub now: &'a Generation,
    /// Where the transactions later than the pack's time begin.
    pub boundary: u64,
    /// Where the file ended.
    pub end: u64,
    pledges: Vec<Arc<Pledge>>,
    pledged: HashSet<Oid>,
    /// Of objects that have a record behind the boundary: the newest before it.
    earlier: Index,
}

impl Moment<'_> {
    /// Rule 4.7: the moment of a pack to this time; none if a pack to a later time was done already.
    ///
    /// `there` is the horizon. Transactions beyond it are committed during the pack, or in `pledges`.
    pub fn new(now: &Generation, to: Tid, there: (u64, Tid), pledges: Vec<Arc<Pledge>>) -> Result<Option<Moment<'_>>> {
        let (end, last) = there;
        let boundary = iterate::find(&now.log, end, last, to, Order::NewestFirst)?;
        let mut scanner = Scanner::new(&*now.log.file, end);
        let mut position = boundary;
        while position < end {
            let header = scanner.header(position).map_err(|fault| now.log.fault(fault))?;
            if header.status == Status::Packed.byte() {
                return Ok(None);
            }
            in_order(now, &header, position, header.tid > to)?;
            position = header.end(position);
        }
        if to != Tid::MAX {
            // The packed transactions must be exactly those that are not later, or the newest revision at the time is
            // unknown.
            position = START;
            while position < boundary {
                let header = scanner.header(position).map_err(|fault| now.log.fault(fault))?;
                in_order(now, &header, position, header.tid <= to)?;
                position = header.end(position);
            }
        }
        let pledged = pledges.iter().flat_map(|pledge| oids(pledge)).collect();
        Ok(Some(Moment { now, boundary, end, pledges, pledged, earlier: Index::new() }))
    }

    /// The place, if it is before the boundary.
    pub fn early(&self, place: Place) -> Place {
        if place < self.boundary { place } else { 0 }
    }

    /// The first bytes of the file.
    pub fn magic(&self) -> Result<[u8; MAGIC.len()]> {
        let mut magic = MAGIC;
        let read = self.now.log.file.read_full_at(&mut magic, 0);
        read.map(|_| magic).map_err(|e| self.now.log.unreadable(0, e))
    }

    fn is_something(&self, holders: &mut Holders, record: &Record) -> Result<bool> {
        let RecordHeader { oid, data_length, .. } = record.header;
        Ok(data_length > 0 || holders.find(&self.now.log, oid, record.backpointer, self.end)? != 0)
    }
}

fn in_order(now: &Generation, header: &TransactionHeader, position: u64, is_so: bool) -> Result<()> {
    if is_so {
        return Ok(());
    }
    let kind = FaultKind::NotLater { last: now.horizon.get().1 };
    let fault = open::disorder(&*now.log.file, now.horizon.end(), Tid::MAX);
    let fault = fault.unwrap_or(Fault { position, tid: Some(header.tid), oid: None, kind });
    Err(open::out_of_order(&now.log.path, &fault))
}

fn oids(pledge: &Pledge) -> Vec<Oid> {
    pledge.records().iter().map(|record| record.oid).collect()
}

impl Collected for Moment<'_> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        let Some(position) = self.now.index.get(oid) else { return Ok(0) };
        if position < self.boundary {
            return Ok(position);
        }
        if let Some(known) = self.earlier.get(oid) {
            return Ok(if known == NOWHERE { 0 } else { known });
        }
        let mut newest = position;
        while newest >= self.boundary {
            let mut past = Past::new(&self.now.log, oid, newest, u64::MAX);
            while let Some(record) = past.older()?.filter(|_| newest >= self.boundary) {
                newest = record.position;
            }
            if newest >= self.boundary {
                // If another thread copied a packed record during the pack, it names no earlier one.
                newest = self.now.hidden_by(newest).unwrap_or(0);
            }
        }
        self.earlier.set(oid, newest.max(NOWHERE));
        Ok(newest)
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        Ok(self.now.index.get(oid).is_some() || self.pledged.contains(&oid))
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(self.now.index.len() > 0 && self.now.index.get(Oid::ROOT).is_none())
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        let log = &self.now.log;
        let mut scanner = Scanner::new(&*log.file, self.end);
        let mut holders = Holders::default();
        for (n, &place) in places.iter().enumerate() {
            if !scanner.has(place, FIRST.min(self.end - place) as usize) {
                scanner.read_ahead(stretch(&places[n..]));
            }
            let record = scanner.record(place, self.end).map_err(|fault| log.fault(fault))?;
            let RecordHeader { oid, transaction, data_length, .. } = record.header;
            if transaction < START || transaction >= place {
                return Err(log.damage_because(oid, place, "the index led to what is no record".to_owned()));
            }
            if let Some(named) = record.astray() {
                // With an index of another program, this may be the first check of the record.
                return Err(log.damage(oid, place, FaultKind::BackpointerTooHigh { named }));
            }
            let under = record.in_version.as_ref().map_or(0, |version| self.early(version.trunk));
            let shared;
            let data = if data_length > WINDOW as u64 {
                shared = Some(log.own_data(&record)?);
                shared.as_deref()
            } else if data_length > 0 {
                let bytes = scanner.bytes(record.body(), data_length as usize);
                Some(bytes.map_err(|e| log.unreadable(place, e))?)
            } else {
                shared = match holders.find(log, oid, record.backpointer, self.end)? {
                    0 => None,
                    holder => log.record(oid, holder, self.end)?.1,
                };
                shared.as_deref()
            };
            each(AtPlace { oid, data: data.map(Refers::Record), base: under })?;
        }
        Ok(())
    }

    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        let log = &self.now.log;
        let fault = |fault| log.fault(fault);
        let mut scanner = Scanner::new(&*log.file, self.end);
        let mut position = self.boundary;
        while position < self.end {
            let mut stepping = scanner.step_into(position).map_err(fault)?;
            while let Some(record) = stepping.next(&mut scanner).map_err(fault)? {
                let RecordHeader { oid, previous, data_length, .. } = record.header;
                if previous < self.boundary && self.earlier.get(oid).is_none() {
                    self.earlier.set(oid, previous.max(NOWHERE));
                }
                each(Later {
                    oid,
                    data: if data_length > 0 { Own::At(record.position) } else { Own::None },
                    source: self.early(record.backpointer),
                    base: record.in_version.as_ref().map_or(0, |version| self.early(version.trunk)),
                })?;
            }
            position = stepping.done(&mut scanner).map_err(fault)?;
        }
        for pledge in &self.pledges {
            for record in pledge.records().iter() {
                let data = if let Content::Data(data) = &record.content { Some(data.bytes()?) } else { None };
                let source = if let Content::Shared(position) = record.content { self.early(position) } else { 0 };
                let (data, base) =
                    (data.as_deref().map_or(Own::None, Own::Record), self.early(record.base.unwrap_or(0)));
                each(Later { oid: record.oid, data, source, base })?;
            }
        }
        Ok(())
    }

    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        const AT_ONCE: usize = 1 << 14;
        let log = &self.now.log;
        let mut holders = Holders::default();
        let mut next = Some(Oid::ROOT);
        while next.is_some() {
            // In the order of the file, many at a time.
            let mut places = Vec::with_capacity(AT_ONCE);
            while let Some(from) = next.filter(|_| places.len() < AT_ONCE) {
                let entry = self.now.index.next(from);
                next = entry.and_then(|(oid, _)| oid.0.checked_add(1)).map(Oid);
                if let Some((oid, _)) = entry
                    && let newest = self.newest(oid)?
                    && newest != 0
                {
                    places.push(newest);
                }
            }
            places.sort_unstable();
            let mut scanner = Scanner::new(&*log.file, self.end);
            for place in places {
                let record = scanner.record(place, self.end).map_err(|fault| log.fault(fault))?;
                let is_something = self.is_something(&mut holders, &record)?
                    || match record.in_version.as_ref().map_or(0, |version| version.trunk) {
                        0 => false,
                        trunk => {
                            let trunk = log.header(record.header.oid, trunk, self.end)?;
                            self.is_something(&mut holders, &trunk)?
                        }
                    };
                if is_something {
                    each(record.header.oid)?;
                }
            }
        }
        Ok(())
    }
}

/// How much to read for the first of these places, with those of the next that are near.
fn stretch(places: &[Place]) -> usize {
    let first = places[0];
    let mut until = first + FIRST;
    for place in &places[1..] {
        if *place > until + GAP || place + FIRST - first > WINDOW as u64 {
            break;
        }
        until = place + FIRST;
    }
    (until - first) as usize
}
