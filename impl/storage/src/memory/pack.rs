//! Packing the storage in memory: the collector names the survivors, and the list of transactions is made anew from
//! them.
//!
//! All other threads wait, readers too: it is the simplest storage. Transactions between vote and finish count as later
//! (rule 4.9).

use std::sync::Arc;

use super::{MemoryStorage, State, place};
use crate::{
    AtPlace, Collected, Collecting, EachPlace, Error, Event, Later, Oid, Own, Pack, PackOptions, PackReport, Place,
    Refers, Result, Revision, Status, Survivors, Tid, TransactionRecord, collect,
};

impl Pack for MemoryStorage {
    /// Rules 4.7 and 4.9: a pack to an earlier time than the last one changes nothing; a voted transaction counts as
    /// later.
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        let packing = self.shared.packing.try_lock();
        let _packing = packing.ok_or_else(|| Error::Packing { name: self.shared.name.clone() })?;
        let _turn = self.shared.turn.lock();
        let mut state = self.write();
        if to < state.packed_to() {
            return Ok(PackReport::default());
        }
        let voted = self.voted().values().cloned().collect();
        let moment = Moment { state: &state, to, voted };
        let PackOptions { collect: collects, go_on, .. } = how;
        let survivors = collect(&moment, Collecting { collect: collects, go_on, ..Collecting::default() })?;
        let transactions = moment.kept(&survivors)?;
        let mut packed = State { last_oid: state.last_oid, ..State::default() };
        transactions.into_iter().for_each(|transaction| packed.push(transaction));
        let to = to.min(packed.last());
        *state = packed;
        drop(state);
        self.shared.listeners.tell(|| Event::Packed { to });
        Ok(survivors.dangling().to_vec().into())
    }
}

/// The storage at the time of a pack.
struct Moment<'a> {
    state: &'a State,
    to: Tid,
    voted: Vec<Arc<Vec<Revision>>>,
}

impl Moment<'_> {
    /// Rules 4.1 and 4.4: a later transaction as it is; the kept revisions of an earlier one, with their own data, and
    /// with their bases if those are kept.
    fn kept(&self, survivors: &Survivors) -> Result<Vec<Arc<TransactionRecord>>> {
        let mut kept = Vec::new();
        for (number, transaction) in self.state.transactions.iter().enumerate() {
            if transaction.tid > self.to {
                kept.push(Arc::clone(transaction));
                continue;
            }
            let mut packed = TransactionRecord {
                status: Status::Packed,
                revisions: Vec::new(),
                ..TransactionRecord::clone(transaction)
            };
            for (n, revision) in transaction.revisions.iter().enumerate() {
                let Revision { oid, base, .. } = *revision;
                if survivors.keeps(self, oid, place(number, n))? {
                    let base = if survivors.is_source(self.place(oid, base)) { base } else { None };
                    packed.revisions.push(Revision { source: None, base, ..revision.clone() });
                }
            }
            // The last transaction stays even without revisions, so that no tid is given out twice.
            if !packed.revisions.is_empty() || packed.tid == self.state.last() {
                kept.push(Arc::new(packed));
            }
        }
        Ok(kept)
    }

    fn revision(&self, place: Place) -> &Revision {
        let (transaction, revision) = ((place >> 32) as usize - 1, place as u32 as usize);
        &self.state.transactions[transaction].revisions[revision]
    }

    /// The place of the object's revision in that transaction, if it is not later than the time.
    fn place(&self, oid: Oid, tid: Option<Tid>) -> Place {
        let at = tid.filter(|tid| *tid <= self.to).and_then(|tid| self.state.at(oid, tid));
        at.map_or(0, |at| at.place)
    }
}

impl Collected for Moment<'_> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        let past = self.state.past(oid).unwrap_or_default();
        Ok(past.into_iter().find(|at| at.transaction.tid <= self.to).map_or(0, |at| at.place))
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        let to_come = || self.voted.iter().any(|revisions| revisions.iter().any(|revision| revision.oid == oid));
        Ok(self.state.revisions.contains_key(&oid) || to_come())
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(self.state.revisions.keys().next().is_some_and(|first| *first != Oid::ROOT))
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        places.iter().try_for_each(|place| {
            let Revision { oid, data, base, .. } = self.revision(*place);
            each(AtPlace { oid: *oid, data: data.as_deref().map(Refers::Record), base: self.place(*oid, *base) })
        })
    }

    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        let later = self.state.transactions.iter().filter(|transaction| transaction.tid > self.to);
        let later = later.flat_map(|transaction| &transaction.revisions);
        for revision in later.chain(self.voted.iter().flat_map(|revisions| revisions.iter())) {
            let Revision { oid, data, source, base, .. } = revision;
            let own = data.as_deref().filter(|_| source.is_none());
            each(Later {
                oid: *oid,
                data: own.map_or(Own::None, Own::Record),
                source: self.place(*oid, *source),
                base: self.place(*oid, *base),
            })?;
        }
        Ok(())
    }

    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        for oid in self.state.revisions.keys() {
            let newest = Some(self.newest(*oid)?).filter(|place| *place != 0).map(|place| self.revision(place));
            let base = newest.map(|newest| self.place(*oid, newest.base)).filter(|place| *place != 0);
            let something = |revision: &Revision| revision.data.is_some();
            if newest.is_some_and(something) || base.is_some_and(|place| something(self.revision(place))) {
                each(*oid)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Error, MemoryStorage, PackOptions, Storage, Tid};

    #[test]
    fn a_second_pack_is_refused_while_one_runs() {
        let storage = MemoryStorage::new("memory");
        let pack = || storage.pack().unwrap().pack(Tid::MAX, PackOptions::default());
        let running = storage.shared.packing.lock();
        assert!(matches!(pack(), Err(Error::Packing { name }) if name == "memory"));
        drop(running);
        pack().unwrap();
    }
}
