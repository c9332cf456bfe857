//! Copying what survives, in file order.
//!
//! Before the boundary a transaction has its kept records, and status `p`; a kept record holds its own data and names
//! no record before it. Behind the boundary everything is as it was, and every position in it is made anew:
//!
//! ```text
//!   previous,       behind the boundary: as much nearer as everything there
//!   backpointer,    before it: where that record was copied to. It is a source, or the newest one of its object, so
//!   trunk           this is known
//!   in version      the version's record that was copied last
//! ```

use vellum_pickle::{Reference, Scanner as References};
use vellum_storage::{Collected, Content, Error, Oid, Result, Status, Survivors};

use super::Stop;
use super::moment::Moment;
use super::sink::Sink;
use super::watch::{Extent, Fate, PackStep, PackWatch, Packed};
use crate::format::fault::{Fault, FaultKind};
use crate::format::record::Record;
use crate::format::scan::Scanner;
use crate::format::{RecordHeader, START, TransactionHeader};
use crate::read::index::Index;
use crate::read::log::Holders;
use crate::read::versions::VersionTable;
use crate::write::pledge::Pledge;

/// The bytes that are read at once, and the size from which a record is read by itself.
const WINDOW: usize = 256 << 10;
const LARGE: u64 = 64 << 10;

pub(super) struct Copy<'a> {
    moment: &'a Moment<'a>,
    survivors: &'a Survivors,
    collects: bool,
    scanner: Scanner<'a>,
    references: References,
    holders: Holders,
    out: Sink,
    /// How far the old file was copied.
    position: u64,
    index: Index,
    versions: VersionTable,
    /// Where the sources were copied to.
    moved: Vec<u64>,
    /// Where the newest revision before the boundary was copied to, of objects that have one behind it.
    bases: Index,
    /// Where the boundary is in the new file; 0 until it is reached.
    boundary: u64,
    /// Newest revisions of needed objects that were found.
    newest: u64,
    before: Extent,
    after: Extent,
}

impl<'a> Copy<'a> {
    pub fn new(moment: &'a Moment<'a>, survivors: &'a Survivors, collects: bool, out: Sink) -> Copy<'a> {
        let mut scanner = Scanner::new(&*moment.now.log.file, moment.end);
        scanner.read_ahead(if out.is_nowhere() { 4096 } else { WINDOW });
        Copy {
            moment,
            survivors,
            collects,
            scanner,
            references: References::default(),
            holders: Holders::default(),
            out,
            position: START,
            index: Index::new(),
            versions: VersionTable::default(),
            moved: vec![0; survivors.sources().len()],
            bases: Index::new(),
            boundary: 0,
            newest: 0,
            before: Extent::default(),
            after: Extent::default(),
        }
    }

    /// How far the old file was copied.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The extent of the old file so far, and of the new one.
    pub fn extents(&self) -> (Extent, Extent) {
        let before = Extent { objects: self.moment.now.index.len(), bytes: self.position, ..self.before };
        (before, Extent { objects: self.index.len(), bytes: self.out.position(), ..self.after })
    }

    /// The result, if every revision is kept, so that nothing is to be changed.
    pub fn unchanged(&self) -> Option<Packed> {
        let Extent { transactions, revisions, .. } = self.before;
        let is_all = (transactions, revisions) == (self.after.transactions, self.after.revisions);
        is_all.then(|| {
            let packed = Packed::unchanged(self.moment.now);
            let extent = Extent { transactions, revisions, ..packed.before };
            Packed { dangling: self.survivors.dangling().to_vec(), before: extent, after: extent, ..packed }
        })
    }

    /// The new position of the record at this position of the old file; 0 if it is not kept.
    pub fn new_place(&self, oid: Oid, position: u64) -> Result<u64> {
        if position >= self.moment.boundary {
            return Ok(position - self.moment.boundary + self.boundary);
        }
        match self.source(position) {
            0 if self.is_newest(oid, position)? => Ok(self.bases.get(oid).or_else(|| self.index.get(oid)).unwrap_or(0)),
            moved => Ok(moved),
        }
    }

    fn is_newest(&self, oid: Oid, position: u64) -> Result<bool> {
        Ok(position != 0 && self.survivors.needs(oid) && self.moment.newest(oid)? == position)
    }

    /// The new file's index, table of versions and length.
    pub fn into_parts(mut self) -> (Index, VersionTable, u64) {
        let end = self.out.position();
        self.versions.is_complete_to(end);
        (self.index, self.versions, end)
    }

    /// Everything that was copied is durable.
    pub fn sync(&mut self) -> Result<()> {
        self.out.sync()
    }

    fn fault(&self, fault: Fault) -> Error {
        fault.damage(
            &self.moment.now.log.path,
            "Nothing was packed: the database is as it was. `vellum check` shows everything that is wrong, `vellum \
             recover` saves what is whole",
        )
    }

    /// Rules 4.2 to 4.4: transactions at or before the pack's time.
    pub fn earlier(&mut self, watch: &mut dyn PackWatch) -> Result<()> {
        let (boundary, end) = (self.moment.boundary, self.moment.end);
        let mut metadata = Vec::new();
        while self.position < boundary {
            let mut stepping = self.scanner.step_into(self.position).map_err(|fault| self.fault(fault))?;
            let header = stepping.header;
            self.read_metadata(&header, &mut metadata)?;
            let (user, rest) = metadata.split_at(header.user_length.into());
            let (description, extension) = rest.split_at(header.description_length.into());
            watch.transaction(&header, [user, description, extension])?;
            let start = self.out.position();
            let mut kept = 0;
            while let Some(record) = stepping.next(&mut self.scanner).map_err(|fault| self.fault(fault))? {
                let fate = self.fate(&record)?;
                watch.record(&record, fate)?;
                if fate == Fate::Kept {
                    if kept == 0 {
                        self.begin(&header, &metadata);
                    }
                    self.keep(&record, start)?;
                    kept += 1;
                }
                self.before.revisions += 1;
            }
            self.position = stepping.done(&mut self.scanner).map_err(|fault| self.fault(fault))?;
            // The last transaction stays even if nothing is left of it: no tid is given out twice.
            let stays = kept > 0 || self.position == end;
            if stays && kept == 0 {
                self.begin(&header, &metadata);
            }
            if stays {
                let length = self.out.position() - start;
                self.out.patch(start + 8, &length.to_be_bytes())?;
                self.out.put(&length.to_be_bytes());
                self.out.flush_if_full()?;
                self.after.transactions += 1;
                self.after.revisions += kept;
            }
            self.before.transactions += 1;
            watch.transaction_ends(stays)?;
            self.tell(watch);
        }
        self.boundary = self.out.position();
        self.are_all_there()?;
        // Or what shares with it would be nothing.
        match self.moved.iter().position(|moved| *moved == 0) {
            None => Ok(()),
            Some(n) => {
                let at = self.survivors.sources()[n];
                let why = "a later record shares it or lies over it, but no transaction that counts has it".to_owned();
                Err(self.fault(Fault { position: at, tid: None, oid: None, kind: FaultKind::Unreadable(why) }))
            }
        }
    }

    fn tell(&self, watch: &mut dyn PackWatch) {
        if self.before.transactions.is_multiple_of(256) {
            watch.progress(PackStep::Copy, self.position, self.moment.end);
        }
    }

    fn read_metadata(&mut self, header: &TransactionHeader, metadata: &mut Vec<u8>) -> Result<()> {
        let at = self.position + TransactionHeader::SIZE as u64;
        let bytes = self.scanner.bytes(at, header.metadata_length() as usize);
        metadata.clear();
        metadata.extend_from_slice(bytes.map_err(|e| self.moment.now.log.unreadable(at, e))?);
        Ok(())
    }

    fn fate(&mut self, record: &Record) -> Result<Fate> {
        let (oid, position) = (record.header.oid, record.position);
        let newest = self.moment.newest(oid)?;
        if newest < position {
            return Err(self.wrong_index(oid, position, "the index names an older record of the object, or none"));
        }
        let is_needed = newest == position && self.survivors.needs(oid);
        self.newest += u64::from(is_needed);
        Ok(match newest == position {
            _ if is_needed || self.survivors.is_source(position) => Fate::Kept,
            true => Fate::Collected,
            false => Fate::Forgotten,
        })
    }

    fn begin(&mut self, header: &TransactionHeader, metadata: &[u8]) {
        let mut bytes = Vec::with_capacity(TransactionHeader::SIZE);
        // How long it is will be known at its end.
        TransactionHeader { status: Status::Packed.byte(), length: 0, ..*header }.write(&mut bytes);
        self.out.put(&bytes);
        self.out.put(metadata);
    }

    /// Copies a record, with the data that it holds or shares.
    fn keep(&mut self, record: &Record, transaction: u64) -> Result<()> {
        let log = &self.moment.now.log;
        let RecordHeader { oid, data_length, .. } = record.header;
        let holder = match data_length {
            0 => match self.holders.find(log, oid, record.backpointer, self.moment.end)? {
                0 => None,
                holder => Some(log.header(oid, holder, self.moment.end)?),
            },
            _ => None,
        };
        let holder = if data_length > 0 { Some(record) } else { holder.as_ref() };
        let header = RecordHeader {
            previous: 0,
            transaction,
            data_length: holder.map_or(0, |holder| holder.header.data_length),
            ..record.header
        };
        let trunk = record.in_version.as_ref().map_or(0, |version| self.source(version.trunk));
        self.head(record, header, trunk);
        match holder {
            None => self.out.put(&0_u64.to_be_bytes()),
            Some(holder) => self.data(holder)?,
        }
        self.out.flush_if_full()
    }

    /// The new position of a source; 0 if it was not copied.
    fn source(&self, position: u64) -> u64 {
        self.survivors.sources().binary_search(&position).map_or(0, |n| self.moved[n])
    }

    /// Writes the head of a record, and notes its new position.
    fn head(&mut self, record: &Record, header: RecordHeader, trunk: u64) {
        let (oid, at) = (header.oid, self.out.position());
        let mut bytes = Vec::with_capacity(128);
        header.write(&mut bytes);
        let version = record.version();
        if !version.is_trunk() {
            bytes.extend_from_slice(&trunk.to_be_bytes());
            bytes.extend_from_slice(&self.versions.head(&version).to_be_bytes());
            bytes.extend_from_slice(version.name());
        }
        self.out.put(&bytes);
        let is_later = self.boundary > 0;
        if is_later && let Some(base) = self.index.get(oid).filter(|base| *base < self.boundary) {
            self.bases.set(oid, base);
        }
        self.index.set(oid, at);
        self.index.learn(oid, header.length().unwrap_or(0));
        self.versions.add(oid, &version, at);
        if let Ok(n) = self.survivors.sources().binary_search(&record.position) {
            self.moved[n] = at;
        }
    }

    fn data(&mut self, holder: &Record) -> Result<()> {
        let (at, length) = (holder.body(), holder.header.data_length);
        if self.out.is_nowhere() {
            self.out.pass(length);
            return Ok(());
        }
        if length > LARGE {
            return self.out.put_from(&self.moment.now.log, at, length);
        }
        let bytes = self.scanner.bytes(at, length as usize);
        self.out.put(bytes.map_err(|e| self.moment.now.log.unreadable(at, e))?);
        Ok(())
    }

    /// Each needed object's newest revision must have been found where the index says that it is. An index that is
    /// wrong would lose objects here.
    fn are_all_there(&self) -> Result<()> {
        let (mut wanted, mut next) = (0, self.survivors.needed().next(Oid::ROOT));
        while let Some(oid) = next {
            wanted += u64::from(self.moment.newest(oid)? != 0);
            next = oid.0.checked_add(1).and_then(|after| self.survivors.needed().next(Oid(after)));
        }
        if wanted == self.newest {
            return Ok(());
        }
        let why = format!("of {wanted} objects that are needed, the index names records of {} only", self.newest);
        Err(self.wrong_index(Oid::ROOT, 0, &why))
    }

    fn wrong_index(&self, oid: Oid, position: u64, why: &str) -> Error {
        let path = &self.moment.now.log.path;
        let remedy = "Nothing was packed: the database is as it was. Close it, remove the .index file, which is made again \
                      from the data, and pack it then";
        let kind = FaultKind::Unreadable(why.to_owned());
        Fault { position, tid: None, oid: Some(oid), kind }.damage(path, remedy)
    }

    /// Rule 4.1: transactions later than the pack's time, up to `end`, unchanged. `known`: the collector knew of it.
    pub fn later(&mut self, end: u64, known: bool, watch: &mut dyn PackWatch) -> Result<(), Stop> {
        self.scanner = Scanner::new(&*self.moment.now.log.file, end);
        self.scanner.read_ahead(if self.out.is_nowhere() { 4096 } else { WINDOW });
        let mut bytes = Vec::new();
        while self.position < end {
            let start = self.out.position();
            let mut stepping = self.scanner.step_into(self.position).map_err(|fault| self.fault(fault))?;
            let header = stepping.header;
            if header.status == Status::Packed.byte() {
                // Another thread copied a transaction that was packed elsewhere: its revisions have no past, which
                // changes the survivors here.
                return Err(Stop::Again);
            }
            self.read_metadata(&header, &mut bytes)?;
            let mut head = Vec::with_capacity(TransactionHeader::SIZE);
            header.write(&mut head);
            self.out.put(&head);
            self.out.put(&bytes);
            if header.status == Status::Undone.byte() {
                // The contents do not matter.
                let records = header.length - header.records_at();
                match self.out.is_nowhere() {
                    true => self.out.pass(records),
                    false => {
                        self.out.put_from(&self.moment.now.log, self.position + header.records_at(), records)?;
                    }
                }
            }
            while let Some(record) = stepping.next(&mut self.scanner).map_err(|fault| self.fault(fault))? {
                if !known {
                    self.is_fit(&record)?;
                }
                self.follow(&record, start)?;
                self.before.revisions += 1;
                self.after.revisions += 1;
            }
            self.out.put(&header.length.to_be_bytes());
            self.position = stepping.done(&mut self.scanner).map_err(|fault| self.fault(fault))?;
            let (old, new) = (self.position - self.moment.boundary, self.out.position() - self.boundary);
            assert_eq!(old, new, "later transactions keep their length");
            self.before.transactions += 1;
            self.after.transactions += 1;
            self.out.flush_if_full()?;
            self.tell(watch);
        }
        Ok(())
    }

    fn follow(&mut self, record: &Record, transaction: u64) -> Result<()> {
        let previous = self.previous(record, transaction)?;
        let header = RecordHeader { previous, transaction, ..record.header };
        let (oid, trunk) = (record.header.oid, record.in_version.as_ref().map_or(0, |version| version.trunk));
        let trunk = self.new_place(oid, trunk)?;
        self.head(record, header, trunk);
        match record.header.data_length {
            0 => self.out.put(&self.new_place(oid, record.backpointer)?.to_be_bytes()),
            _ => self.data(record)?,
        }
        self.out.flush_if_full()
    }

    /// Where the record before a later one is in the new file. If the old one names another, it is damaged, and that
    /// would be harder to see afterwards.
    fn previous(&self, record: &Record, transaction: u64) -> Result<u64> {
        let (log, RecordHeader { oid, previous: named, .. }) = (&self.moment.now.log, record.header);
        let previous = self.new_place(oid, named)?;
        let expected = match self.index.get(oid).unwrap_or(0) {
            // The object's second record in one transaction: both name the same.
            first if first >= transaction => {
                let first = log.header(
                    oid,
                    first - self.boundary + self.moment.boundary,
                    self.moment.end.max(record.position),
                )?;
                self.new_place(oid, first.header.previous)?
            }
            found => found,
        };
        if previous == expected {
            return Ok(previous);
        }
        let why = format!("nothing was packed: position {named}, which it names, is not that of the record before it");
        Err(log.damage_because(oid, record.position, why))
    }

    /// Whether nothing that a record needs was left out. It came when the collector had done its work.
    fn is_fit(&mut self, record: &Record) -> Result<(), Stop> {
        let oid = record.header.oid;
        let under = record.in_version.as_ref().map_or(0, |version| version.trunk);
        self.is_kept(oid, [record.backpointer, under])?;
        if record.header.data_length > 0 {
            let data = self.moment.now.log.own_data(record)?;
            self.refers_to_what_is_kept(oid, &data)?;
        }
        Ok(())
    }

    /// Rule 4.9: the same check of the records that transactions between vote and finish will write.
    pub fn pledges(&mut self, pledges: &[std::sync::Arc<Pledge>]) -> Result<(), Stop> {
        for pledge in pledges {
            for record in pledge.records().iter() {
                let shared = if let Content::Shared(position) = record.content { position } else { 0 };
                self.is_kept(record.oid, [shared, record.base.unwrap_or(0)])?;
                if let Content::Data(data) = &record.content {
                    self.refers_to_what_is_kept(record.oid, &data.bytes()?)?;
                }
            }
        }
        Ok(())
    }

    fn is_kept(&self, oid: Oid, named: [u64; 2]) -> Result<(), Stop> {
        let mut all = self.object_is_kept(oid)?;
        for position in named.into_iter().map(|position| self.moment.early(position)).filter(|place| *place != 0) {
            all &= self.survivors.is_source(position) || self.is_newest(oid, position)?;
        }
        if all { Ok(()) } else { Err(Stop::Again) }
    }

    fn object_is_kept(&self, oid: Oid) -> Result<bool> {
        Ok(self.survivors.needs(oid) || self.moment.newest(oid)? == 0)
    }

    fn refers_to_what_is_kept(&mut self, oid: Oid, data: &[u8]) -> Result<(), Stop> {
        let mut found = Vec::new();
        let scanned = self.references.scan_all(data, |reference| {
            if let Reference::Strong { oid: to, .. } = reference {
                found.push(Oid(to));
            }
        });
        if let (Err(why), true) = (scanned, self.collects) {
            return Err(Error::Unreadable { oid, why: why.to_string(), is_encrypted: why.is_encrypted() }.into());
        }
        for to in found {
            if !self.object_is_kept(to)? {
                return Err(Stop::Again);
            }
        }
        Ok(())
    }
}
