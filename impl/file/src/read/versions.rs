//! Which objects are in which version, and where each version's list of records ends.
//!
//! A record in a version names the record that was made in that version before it, so all of them form a list, newest
//! first. The file does not store where the list begins, and the list also has records that were committed, aborted,
//! undone, or changed again since. So the first question about a version walks over the file once, and from then on
//! each commit adds its changes:
//!
//! ```text
//!   heads      draft ─▶ the newest record of draft's list
//!   objects    draft ─▶ {1, 4}                            those whose newest record is in it
//! ```
//!
//! Databases without versions never need this, and pay nothing for it.

use std::collections::{BTreeSet, HashMap};

use vellum_storage::{Oid, Result, Version};

use crate::format::START;
use crate::format::scan::Scanner;
use crate::read::log::Log;

/// The table, as of a position in the file.
#[derive(Debug, Default)]
pub(crate) struct VersionTable {
    /// Everything before this is in it; 0 if nothing was looked at yet.
    upto: u64,
    heads: HashMap<Version, u64>,
    objects: HashMap<Version, BTreeSet<Oid>>,
    of: HashMap<Oid, Version>,
}

impl VersionTable {
    /// The newest record in the version's list; 0 if there never was one.
    pub fn head(&self, version: &Version) -> u64 {
        self.heads.get(version).copied().unwrap_or(0)
    }

    /// The objects whose newest record is in the version.
    pub fn objects(&self, version: &Version) -> Vec<Oid> {
        self.objects.get(version).map(|oids| oids.iter().copied().collect()).unwrap_or_default()
    }

    /// The versions in which there is an object, in order.
    pub fn names(&self) -> Vec<Version> {
        let mut names: Vec<_> = self.objects.keys().cloned().collect();
        names.sort();
        names
    }

    /// Everything before this position was added.
    pub fn is_complete_to(&mut self, position: u64) {
        self.upto = position;
    }

    /// A record, in the order in which they stand in the file.
    pub fn add(&mut self, oid: Oid, version: &Version, position: u64) {
        if version.is_trunk() && self.of.is_empty() {
            return;
        }
        if let Some(left) = self.of.remove(&oid)
            && let Some(oids) = self.objects.get_mut(&left)
        {
            oids.remove(&oid);
            if oids.is_empty() {
                self.objects.remove(&left);
            }
        }
        if !version.is_trunk() {
            self.heads.insert(version.clone(), position);
            self.objects.entry(version.clone()).or_default().insert(oid);
            self.of.insert(oid, version.clone());
        }
    }

    /// Adds a transaction that was just written at `start`, if everything before it is here.
    pub fn follow<'a>(&mut self, start: u64, end: u64, records: impl Iterator<Item = (Oid, &'a Version, u64)>) {
        if self.upto == start {
            records.for_each(|(oid, version, position)| self.add(oid, version, position));
            self.upto = end;
        }
    }

    /// Walks over the part that is not in it yet, up to `end`.
    pub fn catch_up(&mut self, log: &Log, end: u64) -> Result<()> {
        let mut position = self.upto.max(START);
        let mut scanner = Scanner::new(&*log.file, end);
        while position < end {
            let walked = scanner.transaction(position, |_, record| {
                let version = record.version();
                self.add(record.header.oid, &version, record.position);
                Ok(())
            });
            let header = walked.map_err(|fault| log.fault(fault))?;
            position = header.end(position);
            self.upto = position;
        }
        Ok(())
    }
}
