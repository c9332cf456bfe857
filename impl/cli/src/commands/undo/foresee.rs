//! What undoing transactions makes of the objects (rule 3.4), told from the records in the file.
//!
//! The vote decides whether the undo can be done, and it is what is finished; but it does not say what it will write.
//! So the same is worked out here once more, from the same records:
//!
//! ```text
//!   P ◀── R ◀── ... ◀── newest        R: what the transaction did to the object; P: the one before
//!   the newest is R, shares R's data, or holds the same:    the object becomes P
//!   otherwise:                                              the resolver takes the step from R to P off the newest
//! ```

use std::collections::HashMap;

use vellum_file::{FileStorage, Record, Scanner};
use vellum_storage::{Bytes, Contested, Oid, Tid, Version};
use vellum_terminal::{Failure, Run};

use crate::file::DataFile;
use crate::file::resolver;
use crate::ui::changes::{Change, State};

/// What an object is after some of the undos.
enum Future {
    As(Record),
    Merged(Bytes, Version),
    Nothing,
}

/// Works out what becomes of objects.
pub struct Foresight<'a> {
    storage: &'a FileStorage,
    file: &'a DataFile,
    scanner: Scanner<'a>,
    so_far: HashMap<Oid, Future>,
}

impl<'a> Foresight<'a> {
    /// Before anything is undone.
    pub fn new(storage: &'a FileStorage, file: &'a DataFile) -> Foresight<'a> {
        Foresight { storage, file, scanner: file.scanner(), so_far: HashMap::new() }
    }

    /// The object's newest record in the file.
    pub fn newest(&self, oid: Oid) -> Run<Record> {
        self.storage.newest_record(oid)?.ok_or_else(|| own_mistake(oid))
    }

    /// What that transaction did to the object, and what was before it; none if a pack took that away.
    fn step(&self, oid: Oid, tid: Tid) -> Run<Option<(Record, Option<Record>)>> {
        let mut chain = self.file.chain(Some(self.newest(oid)?)).skip_while(|record| match record {
            Ok(record) => record.header.tid > tid,
            Err(_) => false,
        });
        let damage = |fault| self.file.damage(&fault);
        let undone = chain.next().transpose().map_err(damage)?.filter(|record| record.header.tid == tid);
        match undone {
            Some(undone) => Ok(Some((undone, chain.next().transpose().map_err(damage)?))),
            None => Ok(None),
        }
    }

    /// Takes back what that transaction did to the object.
    pub fn undo(&mut self, oid: Oid, tid: Tid) -> Run<()> {
        let (undone, before) = self.step(oid, tid)?.ok_or_else(|| own_mistake(oid))?;
        let future = match before {
            _ if self.is_still(oid, &undone)? => before.map_or(Future::Nothing, Future::As),
            Some(before) => self.merge(oid, &undone, &before)?,
            None => return Err(own_mistake(oid)),
        };
        self.so_far.insert(oid, future);
        Ok(())
    }

    /// Whether the object is still what that transaction made of it.
    fn is_still(&mut self, oid: Oid, undone: &Record) -> Run<bool> {
        let newest = match self.so_far.get(&oid) {
            None => self.newest(oid)?,
            Some(Future::As(record)) => record.clone(),
            Some(Future::Nothing) => return Ok(false),
            Some(Future::Merged(data, version)) => {
                let (data, version) = (data.clone(), version.clone());
                return Ok(version == undone.version() && self.data(undone)?.is_some_and(|other| other == data));
            }
        };
        if newest.position == undone.position {
            return Ok(true);
        }
        // A future revision is in the version of the one that it shares data with.
        if newest.version() != undone.version() {
            return Ok(false);
        }
        let mut at = Some(newest.clone());
        while let Some(record) = at.filter(|record| record.position >= undone.position) {
            if record.position == undone.position {
                return Ok(true);
            }
            at = self.file.shared(&mut self.scanner, &record).map_err(|fault| self.file.damage(&fault))?;
        }
        let data = self.data(&newest)?;
        Ok(data.is_some() && data == self.data(undone)?)
    }

    fn merge(&mut self, oid: Oid, undone: &Record, before: &Record) -> Run<Future> {
        let (committed, version) = match self.so_far.get(&oid) {
            None => {
                let newest = self.newest(oid)?;
                (self.data(&newest)?, newest.version())
            }
            Some(Future::As(record)) => {
                let record = record.clone();
                (self.data(&record)?, record.version())
            }
            Some(Future::Merged(data, version)) => (Some(data.clone()), version.clone()),
            Some(Future::Nothing) => (None, Version::TRUNK),
        };
        let merged = match (self.data(undone)?, committed, self.data(before)?) {
            (Some(ancestor), Some(committed), Some(new)) => {
                resolver().resolve(Contested { oid, ancestor: &ancestor, committed: &committed, new: &new })
            }
            _ => None,
        };
        merged.map(|data| Future::Merged(data, version)).ok_or_else(|| own_mistake(oid))
    }

    /// What a record holds, be it by sharing it; none for nothing.
    fn data(&mut self, record: &Record) -> Run<Option<Bytes>> {
        let damage = |fault| self.file.damage(&fault);
        match self.file.holder(&mut self.scanner, record).map_err(damage)? {
            Some(holder) => Ok(Some(self.file.data_start(&holder, u64::MAX).map_err(damage)?.into())),
            None => Ok(None),
        }
    }

    /// Whether the object is already what undoing that transaction would make of it.
    pub fn is_undone_already(&mut self, oid: Oid, tid: Tid) -> Run<bool> {
        let Some((_, before)) = self.step(oid, tid)? else { return Ok(false) };
        let newest = self.newest(oid)?;
        let now = self.data(&newest)?;
        Ok(match before {
            Some(before) => now == self.data(&before)? && newest.version() == before.version(),
            None => now.is_none(),
        })
    }

    /// What becomes of the object.
    pub fn change(&mut self, oid: Oid) -> Run<Change> {
        let newest = self.newest(oid)?;
        let now = self.file.state(&mut self.scanner, &newest)?;
        let becomes = match self.so_far.get(&oid) {
            Some(Future::As(record)) => self.file.state(&mut self.scanner, record)?,
            Some(Future::Merged(data, version)) => State::merged(data, version.clone()),
            Some(Future::Nothing) => State::nothing(),
            None => return Err(own_mistake(oid)),
        };
        Ok(Change { oid, now, becomes, replaces: None })
    }
}

fn own_mistake(oid: Oid) -> Failure {
    Failure::Message(format!(
        "what becomes of object {oid} could not be told, though the undo can be done. Nothing was changed. This is a \
         mistake in vellum: please report it"
    ))
}
