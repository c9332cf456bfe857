//! Walking over the file and believing nothing.
//!
//! A [`Scanner`] reads one transaction at a time and holds it against the format: does it fit into the file, does its
//! length agree with its twin, do its records add up, do they know which transaction they belong to? What breaks a rule is
//! a [`Fault`] with its position. Opening, checking, dumping and recovering are all built on this walk.
//!
//! Data is not read: the walk hops from header to header, and reads ahead a little, because the next header is often near.

use std::fmt;
use std::io;
use std::path::Path;

use bytes::Bytes;
use vellum_disk::DiskFile;
use vellum_storage::{Damage, Error, Oid, Status, Tid, Version};

use crate::format::{RecordHeader, START, TransactionHeader, UNFINISHED, u64_at};

/// A data record in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub position: u64,
    /// Its fixed part.
    pub header: RecordHeader,
    /// What a record in a version has besides.
    pub in_version: Option<InVersion>,
    /// Where there is no data: the position of the record that has it, 0 for nothing.
    pub backpointer: u64,
}

/// What a record in a version has besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InVersion {
    /// The position of the object's newest trunk record, 0 if it has none.
    pub trunk: u64,
    /// The position of the previous record in this version, 0 if it has none.
    pub previous: u64,
    /// The version.
    pub version: Version,
}

impl Record {
    /// The version it is in.
    pub fn version(&self) -> Version {
        self.in_version.as_ref().map_or(Version::TRUNK, |v| v.version.clone())
    }

    /// Where its data, or the backpointer in its place, starts.
    pub fn body(&self) -> u64 {
        self.position + self.header.body_at()
    }

    /// Rule 1.6: the record that the trunk shows from this one on: itself, or the one under the version it is in; 0 for none.
    pub fn on_trunk(&self) -> u64 {
        self.in_version.as_ref().map_or(self.position, |version| version.trunk)
    }

    /// A place where it leads that can not be before it. Who follows records must ask, or may go in circles.
    pub fn astray(&self) -> Option<u64> {
        let trunk = self.in_version.as_ref().map_or(0, |version| version.trunk);
        let is_astray =
            |named: &u64| *named >= self.position || (1..START + TransactionHeader::SIZE as u64).contains(named);
        [self.header.previous, self.backpointer, trunk].into_iter().find(is_astray)
    }
}

/// Where an object's past goes on behind a record (rule 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Older {
    /// To the record at this position, and on.
    To(u64),
    /// To the trunk's record at this position, under a packed one; it is the last.
    Last(u64),
    /// There is no more.
    End,
}

impl Older {
    /// Whereto from this record, to which this step led.
    pub fn from(self, record: &Record) -> Older {
        match (self, &record.in_version, record.header.previous) {
            (Older::To(_), Some(version), 0) if version.trunk != 0 => Older::Last(version.trunk),
            (Older::To(_), _, previous) if previous != 0 => Older::To(previous),
            _ => Older::End,
        }
    }

    /// The position it leads to.
    pub fn position(self) -> Option<u64> {
        match self {
            Older::To(position) | Older::Last(position) => Some(position),
            Older::End => None,
        }
    }
}

/// What whole transactions are to be marked as that a crash kept from being marked. Those that shared a commit are to have
/// one status, and some of them are marked: so it is the status of the first marked one that follows.
#[derive(Debug)]
pub(crate) struct ToBe {
    /// A row of transactions of which this is known.
    from: u64,
    until: u64,
    status: Status,
}

impl Default for ToBe {
    fn default() -> ToBe {
        ToBe { from: 0, until: 0, status: Status::Complete }
    }
}

impl ToBe {
    /// That of the transaction at `position`. Asking for one after the other, in either direction, looks at each once.
    pub fn status(&mut self, scanner: &mut Scanner<'_>, position: u64) -> Status {
        let (mut at, mut status) = (position, Status::Complete);
        let until = loop {
            if self.from <= at && at < self.until {
                status = self.status;
                break self.until;
            }
            match scanner.header(at) {
                Ok(header) if header.status == UNFINISHED => at = header.end(at),
                Ok(header) => {
                    status = Status::from_byte(header.status).filter(|s| *s != Status::Undone).unwrap_or_default();
                    break at;
                }
                Err(_) => break at,
            }
        };
        *self = ToBe { from: position, until: until.max(position + 1), status };
        status
    }
}

/// Something that breaks the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The position of the transaction or record.
    pub position: u64,
    /// The transaction, where its header could be read.
    pub tid: Option<Tid>,
    /// The object, where it is about one.
    pub oid: Option<Oid>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What can be wrong with the bytes of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages below say it")]
pub enum FaultKind {
    HeaderCutOff { there: u64 },
    CutOff { length: u64, there: u64 },
    Unfinished,
    BadStatus(u8),
    LengthTooSmall { length: u64, header: u64 },
    TwinDiffers { length: u64, twin: u64 },
    NotLater { last: Tid },
    NotEarlier { next: Tid },
    RecordCutOff { left: u64 },
    RecordTooLong { length: Option<u64>, left: u64 },
    WrongTransaction { named: u64 },
    WrongTid { named: Tid },
    BackpointerTooHigh { named: u64 },
    BackpointerAstray { named: u64 },
    WrongPrevious { named: u64, found: u64 },
    TrunkAstray { named: u64 },
    VersionAstray { named: u64 },
    Unreadable(String),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use FaultKind::*;
        match self {
            HeaderCutOff { there } => write!(f, "the file ends {there} bytes into a transaction's header of 23"),
            CutOff { length, there } => {
                write!(f, "the transaction has {length} bytes, but the file ends after {there}")
            }
            Unfinished => write!(f, "the transaction was never finished (status c)"),
            BadStatus(status) => write!(f, "no transaction has the status 0x{status:02x}"),
            LengthTooSmall { length, header } => {
                write!(f, "the transaction says that it has {length} bytes, but its header alone has {header}")
            }
            TwinDiffers { length, twin } => write!(f, "the transaction's length is {length}, but its twin says {twin}"),
            NotLater { last } => write!(f, "the transaction is not later than the one before it ({last})"),
            NotEarlier { next } => write!(f, "the transaction is not earlier than the one after it ({next})"),
            RecordCutOff { left } => {
                write!(
                    f,
                    "the transaction's records do not add up: what follows the last of them is too short for another ({left} B)"
                )
            }
            RecordTooLong { length: Some(length), left } => {
                write!(f, "the record has {length} bytes, but only {left} are left in its transaction")
            }
            RecordTooLong { length: None, left } => {
                write!(f, "the record's length is beyond all measure: its transaction has only {left} bytes more")
            }
            WrongTransaction { named } => {
                write!(f, "the record says that its transaction is at {named}, which it is not")
            }
            WrongTid { named } => write!(f, "the record says that its transaction is {named}, which it is not"),
            BackpointerTooHigh { named } => write!(f, "the backpointer to {named} does not point backwards"),
            BackpointerAstray { named } => write!(f, "the backpointer to {named} points to no record of the object"),
            WrongPrevious { named, found: 0 } => {
                write!(f, "the previous record should be at {named}, but the object has none before this")
            }
            WrongPrevious { named, found } => {
                write!(f, "the previous record should be at {named}, but it is at {found}")
            }
            TrunkAstray { named } => write!(f, "the object's trunk record should be at {named}, but there is none"),
            VersionAstray { named } => {
                write!(f, "the version's previous record should be at {named}, but there is none")
            }
            Unreadable(why) => write!(f, "can not be read: {why}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}: {}", self.position, self.kind)
    }
}

impl Fault {
    /// As an error, with what to do about it.
    pub(crate) fn damage(&self, path: &Path, remedy: &str) -> Error {
        let Fault { position, tid, oid, ref kind } = *self;
        let (path, what, remedy) = (path.to_owned(), kind.to_string(), remedy.to_owned());
        Error::Damaged(Box::new(Damage { path, position, tid, oid, what, remedy }))
    }
}

/// Walks over a file, up to `end`.
pub struct Scanner<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    window: Vec<u8>,
    /// How much of it a read fills, if nobody asks for more.
    ahead: usize,
    /// Where in the file the window begins, and how much of it is filled.
    start: u64,
    filled: usize,
}

/// A transaction that is walked over, record by record, by who looks at other things in between.
pub(crate) struct Stepping {
    position: u64,
    pub header: TransactionHeader,
    /// Where the next record is, and where the records end.
    at: u64,
    end: u64,
}

impl Stepping {
    /// The next record.
    pub fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<Record>, Fault> {
        let Stepping { position, header, at, end } = self;
        if *at >= *end {
            return Ok(None);
        }
        let record = scanner.record(*at, *end).map_err(|f| Fault { tid: Some(header.tid), ..f })?;
        let wrong = |kind| Err(Fault { position: *at, tid: Some(header.tid), oid: Some(record.header.oid), kind });
        if record.header.transaction != *position {
            return wrong(FaultKind::WrongTransaction { named: record.header.transaction });
        }
        if record.header.tid != header.tid {
            return wrong(FaultKind::WrongTid { named: record.header.tid });
        }
        if record.backpointer >= *at {
            return wrong(FaultKind::BackpointerTooHigh { named: record.backpointer });
        }
        *at = record.body() + record.header.body_length();
        Ok(Some(record))
    }

    /// After its last record: holds its length against its twin. Where the next transaction is.
    pub fn done(self, scanner: &mut Scanner<'_>) -> Result<u64, Fault> {
        let Stepping { position, header, .. } = self;
        let fault = |kind| Fault { position, tid: Some(header.tid), oid: None, kind };
        let twin = scanner.bytes(position + header.length, 8);
        let twin = twin.map_err(|e| fault(FaultKind::Unreadable(e.to_string())))?;
        match u64_at(twin, 0) {
            twin if twin == header.length => Ok(header.end(position)),
            twin => Err(fault(FaultKind::TwinDiffers { length: header.length, twin })),
        }
    }
}

/// How much a hop reads ahead. Larger reads copy data that nobody looks at, smaller ones cost more calls; between 2 and
/// 8 KiB it makes no difference on records of a few hundred to a few thousand bytes.
const WINDOW: usize = 4096;

impl<'a> Scanner<'a> {
    /// A walk over what is before `end`.
    pub fn new(file: &'a dyn DiskFile, end: u64) -> Scanner<'a> {
        Scanner { file, end, window: vec![0; WINDOW], ahead: WINDOW, start: 0, filled: 0 }
    }

    /// From now on reads bring so many bytes, or what is asked for, if that is more.
    pub(crate) fn read_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }

    /// Whether these bytes are at hand.
    pub(crate) fn has(&self, position: u64, length: usize) -> bool {
        position >= self.start && position - self.start + length as u64 <= self.filled as u64
    }

    /// Where the walk ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// `length` bytes at `position`, or as many as there are before the end. At most some 64 KiB.
    pub(crate) fn bytes(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let there = self.end.saturating_sub(position).min(length as u64) as usize;
        let offset = position.wrapping_sub(self.start);
        if position < self.start || offset + there as u64 > self.filled as u64 {
            let ahead = self.end.saturating_sub(position).min(self.ahead.max(there) as u64) as usize;
            if self.window.len() < ahead {
                self.window.resize(ahead, 0);
            }
            // A read that fails may have written into the window all the same.
            (self.start, self.filled) = (position, 0);
            self.filled = match self.file.read_full_at(&mut self.window[..ahead], position) {
                // What can not be read may lie in what nobody asked for.
                Err(_) if ahead > there => self.file.read_full_at(&mut self.window[..there], position)?,
                read => read?,
            };
            if self.filled < there {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
            }
            return Ok(&self.window[..there]);
        }
        Ok(&self.window[offset as usize..offset as usize + there])
    }

    /// The header of the transaction at `position`, and whether it can be one: its status, its length against its header,
    /// the file's end, and its twin.
    pub fn header(&mut self, position: u64) -> Result<TransactionHeader, Fault> {
        let fault = |tid, kind| Fault { position, tid, oid: None, kind };
        let unreadable = |e: io::Error| fault(None, FaultKind::Unreadable(e.to_string()));
        let bytes = self.bytes(position, TransactionHeader::SIZE).map_err(unreadable)?;
        if bytes.len() < TransactionHeader::SIZE {
            return Err(fault(None, FaultKind::HeaderCutOff { there: bytes.len() as u64 }));
        }
        let header = TransactionHeader::parse(bytes);
        let fault = |kind| Err(fault(Some(header.tid), kind));
        let there = self.end - position;
        if header.length.checked_add(8).is_none_or(|all| all > there) {
            return fault(FaultKind::CutOff { length: header.length, there });
        }
        if header.length < header.records_at() {
            return fault(FaultKind::LengthTooSmall { length: header.length, header: header.records_at() });
        }
        if header.status != UNFINISHED && Status::from_byte(header.status).is_none() {
            return fault(FaultKind::BadStatus(header.status));
        }
        Ok(header)
    }

    /// Walks over the transaction at `position`, gives each of its records to `each`, and holds its length against its
    /// twin. An undone transaction's records are not looked at.
    pub fn transaction(
        &mut self,
        position: u64,
        mut each: impl FnMut(&TransactionHeader, Record) -> Result<(), Fault>,
    ) -> Result<TransactionHeader, Fault> {
        let mut stepping = self.step_into(position)?;
        let header = stepping.header;
        while let Some(record) = stepping.next(self)? {
            each(&header, record)?;
        }
        stepping.done(self).map(|_| header)
    }

    /// The same, step by step.
    pub(crate) fn step_into(&mut self, position: u64) -> Result<Stepping, Fault> {
        let header = self.header(position)?;
        let end = position + header.length;
        let at = if header.status == Status::Undone.byte() { end } else { position + header.records_at() };
        Ok(Stepping { position, header, at, end })
    }

    /// A transaction's records say its tid again. Where there are none, a wrong tid shows only in the transaction after
    /// it; but then it is this one that is wrong, and not all that follow. `last` is the tid of the one before it.
    pub(crate) fn tid_astray(&mut self, position: u64, header: &TransactionHeader, last: Tid) -> Option<Fault> {
        let is_bare = header.length == header.records_at() || header.status == Status::Undone.byte();
        let after = header.end(position);
        let next = if is_bare { self.header(after).ok()?.tid } else { return None };
        (last < next && next <= header.tid && self.is_whole(after, last)).then_some(Fault {
            position,
            tid: Some(header.tid),
            oid: None,
            kind: FaultKind::NotEarlier { next },
        })
    }

    /// The record at `position`, which must fit before `end`.
    pub fn record(&mut self, position: u64, end: u64) -> Result<Record, Fault> {
        let fault = |oid, kind| Fault { position, tid: None, oid, kind };
        let left = end.saturating_sub(position);
        if left < RecordHeader::SIZE as u64 {
            return Err(fault(None, FaultKind::RecordCutOff { left }));
        }
        let unreadable = |e: io::Error| fault(None, FaultKind::Unreadable(e.to_string()));
        // Most often, what follows the fixed part is wanted too: a backpointer or the version's fields. If it can not be
        // read, it may be data, at which nobody looks here.
        let more = if self.bytes(position, RecordHeader::SIZE + 8).is_ok() { 8 } else { 0 };
        let bytes = self.bytes(position, RecordHeader::SIZE + more).map_err(unreadable)?;
        if bytes.len() < RecordHeader::SIZE {
            return Err(fault(None, FaultKind::RecordCutOff { left: bytes.len() as u64 }));
        }
        let header = RecordHeader::parse(bytes);
        if header.length().is_none_or(|length| length > left) {
            return Err(fault(Some(header.oid), FaultKind::RecordTooLong { length: header.length(), left }));
        }
        let mut record = Record { position, header, in_version: None, backpointer: 0 };
        if header.version_length == 0 && header.data_length == 0 {
            let more = self.bytes(position + RecordHeader::SIZE as u64, 8).map_err(unreadable)?;
            if more.len() < 8 {
                return Err(fault(Some(header.oid), FaultKind::RecordCutOff { left }));
            }
            record.backpointer = u64_at(more, 0);
        } else if header.version_length > 0 {
            let more = header.body_at() as usize + if header.data_length == 0 { 8 } else { 0 };
            let bytes = self.bytes(position, more).map_err(unreadable)?;
            if bytes.len() < more {
                return Err(fault(Some(header.oid), FaultKind::RecordCutOff { left: bytes.len() as u64 }));
            }
            let name = &bytes[RecordHeader::SIZE + RecordHeader::VERSION_SIZE as usize..header.body_at() as usize];
            record.in_version = Some(InVersion {
                trunk: u64_at(bytes, RecordHeader::SIZE),
                previous: u64_at(bytes, RecordHeader::SIZE + 8),
                version: Version::named(Bytes::copy_from_slice(name)),
            });
            if header.data_length == 0 {
                record.backpointer = u64_at(bytes, header.body_at() as usize);
            }
        }
        Ok(record)
    }

    /// The record to which a pointer leads, if it lies in the transaction that it says it is of. What only looks like a record,
    /// as anything may in somebody's data, is none.
    pub fn pointed_at(&mut self, position: u64) -> Option<Record> {
        let record = self.record(position, self.end).ok()?;
        let RecordHeader { transaction, tid, .. } = record.header;
        let is_before = (START..position).contains(&transaction);
        let header = is_before.then(|| self.header(transaction).ok()).flatten()?;
        let end = position.checked_add(record.header.length()?)?;
        let is_in = transaction + header.records_at() <= position && end <= transaction + header.length;
        (is_in && header.tid == tid).then_some(record)
    }

    /// The first position in `from..to` at which a whole transaction stands that is later than `last`: how to find the way
    /// again after damage. Looks at every byte in between; sectors that can not be read are passed over.
    pub fn resync(&mut self, from: u64, to: u64, last: Tid) -> Option<u64> {
        const CHUNK: usize = 64 << 10;
        let mut chunk = vec![0; CHUNK + TransactionHeader::SIZE];
        let mut at = from.max(START);
        while at < to {
            let there = (self.end - at).min(chunk.len() as u64) as usize;
            let filled = self.file.read_full_at(&mut chunk[..there], at).unwrap_or_else(|_| {
                self.readable(&mut chunk[..there], at);
                there
            });
            let candidates = filled.saturating_sub(TransactionHeader::SIZE - 1).min(CHUNK).min((to - at) as usize);
            for offset in 0..candidates {
                // A quick look first: the high bytes of a length are zero, and few bytes are a status.
                let bytes = &chunk[offset..offset + TransactionHeader::SIZE];
                if bytes[8] != 0 || bytes[9] != 0 || Status::from_byte(bytes[16]).is_none() {
                    continue;
                }
                if self.is_whole(at + offset as u64, last) {
                    return Some(at + offset as u64);
                }
            }
            if candidates == 0 {
                break;
            }
            at += candidates as u64;
        }
        None
    }

    /// Reads what can be read of `buffer`, sector by sector; what can not is zeros.
    fn readable(&self, buffer: &mut [u8], position: u64) {
        const SECTOR: u64 = 512;
        buffer.fill(0);
        let mut done = 0;
        while done < buffer.len() {
            let at = position + done as u64;
            let end = buffer.len().min(done + (SECTOR - at % SECTOR) as usize);
            if self.file.read_full_at(&mut buffer[done..end], at).is_err() {
                buffer[done..end].fill(0);
            }
            done = end;
        }
    }

    /// Whether a whole, finished transaction that is later than `last` stands at `position`.
    ///
    /// A record names the position of its transaction, and so vouches for it. A transaction without records is but 31 bytes
    /// that could stand in anybody's data, and counts only if the file ends with it or goes on with another.
    fn is_whole(&mut self, mut position: u64, mut last: Tid) -> bool {
        const WITHOUT_RECORDS_MAX: usize = 16;
        for _ in 0..WITHOUT_RECORDS_MAX {
            let Ok(header) = self.header(position) else {
                return false;
            };
            // The twin first: it costs one read, and almost nothing gets past it by chance.
            let twin = self.bytes(position + header.length, 8).is_ok_and(|b| u64_at(b, 0) == header.length);
            if !twin || header.tid <= last || header.status == UNFINISHED {
                return false;
            }
            let mut records = 0_u64;
            let walked = self.transaction(position, |_, _| {
                records += 1;
                Ok(())
            });
            (position, last) = (header.end(position), header.tid);
            if walked.is_err() || records > 0 || position == self.end {
                return walked.is_ok();
            }
        }
        true
    }
}
