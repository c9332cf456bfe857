//! Packing (part 4 of the rules), beside commits and in small steps.
//!
//! ```text
//!   1. collect   the one collector says what survives, of a snapshot            nothing is changed
//!   2. doom      what does not survive is listed in `doomed`, step by step      no reader sees a difference
//!   3. switch    one step: the time of the pack, and "sweeping"                 all readers see the packed database
//!   4. sweep     the listed revisions are removed, step by step                 no reader sees a difference
//! ```
//!
//! A crash before the switch leaves a list, which the next opening throws away. After it, the next opening sweeps on.
//!
//! **Data goes by counts.** Many revisions can have one record: an undo and the end of a version share it. A removed
//! revision lowers the count of its record; the last one takes the record and its list of references along.
//!
//! **Concurrent transactions count as later** (rule 4.9), whether committed or voted. The collector did not see them.
//! So each is checked at the switch; if one needs what is doomed, the pack begins again. The third attempt lets no
//! other thread commit.

mod counts;
mod free;
mod moment;
mod pace;

pub(crate) use free::{ByCounts, Forgetting, change_and_forget};
pub(crate) use pace::Pace;

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::ReadableTable;
use vellum_storage::{
    Collecting, Counts, Event, Oid, Pack, PackOptions, PackReport, Result, Survivors, Tid, Write, collect,
};

use crate::blobs::remove_unowned;
use crate::line::WriterTurn;
use crate::row::{Row, decode_newest};
use crate::storage::{Shared, TableStorage};
use crate::store::{OnTurn, Snapshot};
use crate::tables::{Reading, Tables, Writing, door};
use moment::Moment;

/// So often a pack is tried beside commits.
const ATTEMPTS_BESIDE_COMMITS: u32 = 2;

/// Listing a revision is less work than removing it.
const LISTED_A_ROW: usize = 16;

impl Pack for TableStorage {
    fn pack(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.pack_to(to, how)
    }

    fn counts(&self) -> Option<&dyn Counts> {
        Some(self)
    }
}

impl TableStorage {
    /// Packs to a time: [`vellum_storage::Pack::pack`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pack_to(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.pack_with(to, how, false)
    }

    /// The same, unless a needed object refers into another database: then there are several, and the others may need
    /// what looks like garbage here.
    ///
    /// # Errors
    ///
    /// [`vellum_storage::Error::Foreign`] if an object does, and nothing was packed; else as [`TableStorage::pack_to`].
    pub fn pack_unless_foreign(&self, to: Tid, how: PackOptions) -> Result<PackReport> {
        self.pack_with(to, how, true)
    }

    fn pack_with(&self, to: Tid, how: PackOptions, stop_at_foreign: bool) -> Result<PackReport> {
        let shared = &self.shared;
        shared.writable()?;
        let _packing = shared.begin_packing()?;
        let _listing = Listing::begin(shared);
        go_on(shared)?;
        let mut attempt = 0;
        loop {
            let mut alone = Alone::default();
            if attempt >= ATTEMPTS_BESIDE_COMMITS {
                alone = Alone(Some((shared.store.turn(), shared.judging.write())));
            }
            match pack(shared, to, how, stop_at_foreign, alone)? {
                Some(report) => return Ok(report),
                None => attempt += 1,
            }
            tracing::info!("{}: a concurrent transaction needs more than was kept", shared.name());
        }
    }
}

/// As long as a pack goes by its list, no commit forgets anything: what is listed must stay until it is removed.
struct Listing<'a>(&'a Shared);

impl<'a> Listing<'a> {
    fn begin(shared: &'a Shared) -> Listing<'a> {
        shared.store.turn().is_packing = true;
        Listing(shared)
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        self.0.store.turn().is_packing = false;
    }
}

/// The turn, if the pack has it from its beginning, so that no other thread commits or judges.
#[derive(Default)]
struct Alone<'a>(Option<(OnTurn<'a>, WriterTurn<'a>)>);

impl Alone<'_> {
    /// How many rows a step lists.
    fn pace<'s>(&self, shared: &'s Shared) -> Pace<'s> {
        Pace::new(self.0.is_none().then_some(shared), shared.options.step_rows.saturating_mul(LISTED_A_ROW))
    }

    fn change<T>(
        &mut self,
        shared: &Shared,
        change: impl FnOnce(&mut Tables<Writing<'_>>, &mut u64) -> Result<T>,
    ) -> Result<T> {
        match &mut self.0 {
            Some((turn, _)) => shared.store.change(turn, change),
            None => shared.store.change(&mut shared.store.turn(), change),
        }
    }
}

/// Ends the work of an earlier pack that failed, or whose process ended: a list that it did not use, or a sweep that it
/// did not end.
pub(crate) fn go_on(shared: &Shared) -> Result<()> {
    let is_sweeping = shared.store.now().tables.facts.is_sweeping;
    if is_sweeping { sweep(shared) } else { forget(shared, &mut Alone::default()) }
}

/// One attempt. None: a concurrent transaction needs what is doomed.
fn pack(
    shared: &Shared,
    to: Tid,
    how: PackOptions,
    stop_at_foreign: bool,
    mut alone: Alone<'_>,
) -> Result<Option<PackReport>> {
    // The voted first: one that is finished in between is then in both.
    let voted = || shared.voted.lock().values().cloned().collect();
    let voted: Vec<Arc<Vec<Write>>> = match &alone.0 {
        Some(_) => voted(),
        None => {
            let _judging = shared.judging.write();
            voted()
        }
    };
    let snapshot = shared.store.now_full();
    // Rule 4.12: what is forgotten has no past.
    let facts = &snapshot.tables.facts;
    let to = if facts.is_history_free { to.max(facts.packed_to) } else { to };
    if to < last_packed(&snapshot.tables)? {
        return Ok(Some(PackReport::default()));
    }
    let moment = Moment::new(&snapshot, to.min(snapshot.last), &voted).reads_records(stop_at_foreign);
    let threads = if how.one_thread { 1 } else { shared.options.threads };
    let collecting = Collecting::new().collect(how.collect).go_on(how.go_on).stop_at_foreign(stop_at_foreign);
    let survivors = collect(&moment, collecting.threads(threads))?;
    door(&shared.store.path, || doom(shared, &moment, &survivors, &mut alone))?;
    if !switch(shared, &moment, &survivors, how, &mut alone)? {
        forget(shared, &mut alone)?;
        return Ok(None);
    }
    drop(alone);
    sweep(shared)?;
    if how.collect {
        shared.store.change(&mut shared.store.turn(), |tables, _| {
            // From here on autopack measures growth.
            tables.facts.collected_objects = tables.object_count()?;
            // All records were read, and none refers into another database; of later ones that is not known.
            if stop_at_foreign && tables.last()? == snapshot.last {
                tables.facts.is_one_of_several = false;
            }
            Ok(())
        })?;
    }
    Ok(Some(survivors.dangling().to_vec().into()))
}

/// Rule 4.7: the last transaction with status `p`.
fn last_packed(tables: &Tables<Reading>) -> Result<Tid> {
    if tables.facts.copied_packed > tables.facts.packed_to {
        return Ok(tables.facts.copied_packed);
    }
    let last = tables.next_told(Tid::ZERO, tables.facts.packed_to, true)?;
    Ok(last.map_or(Tid::ZERO, |last| last.tid))
}

/// Lists all revisions up to the time that do not survive.
fn doom(shared: &Shared, moment: &Moment<'_>, survivors: &Survivors, alone: &mut Alone<'_>) -> Result<()> {
    let mut list = List { shared, alone, waiting: Vec::new() };
    let tables = moment.tables();
    let doomed = |list: &mut List<'_, '_>, oid: Oid, tid: Tid, row: Row| -> Result<()> {
        if tid > moment.to || survivors.keeps(moment, oid, row.number)? {
            return Ok(());
        }
        list.push(tid, row.number, oid)
    };
    for found in tables.objects.iter().map_err(|e| tables.trouble(e))? {
        let (oid, newest) = found.map_err(|e| tables.trouble(e))?;
        let oid = Oid(oid.value());
        let (tid, row) = decode_newest(newest.value()).map_err(|why| tables.damaged("objects", oid, why))?;
        doomed(&mut list, oid, tid, row)?;
    }
    for found in tables.past.iter().map_err(|e| tables.trouble(e))? {
        let (key, row) = found.map_err(|e| tables.trouble(e))?;
        let (oid, tid) = (Oid(key.value().0), Tid(key.value().1));
        let row = Row::decode(row.value()).map_err(|why| tables.damaged("past", format_args!("{oid} {tid}"), why))?;
        doomed(&mut list, oid, tid, row)?;
    }
    for found in tables.overwritten.iter().map_err(|e| tables.trouble(e))? {
        let number = found.map_err(|e| tables.trouble(e))?.0.value();
        let place = tables.place(number)?;
        let (oid, tid) = place.ok_or_else(|| tables.damaged("places", number, "it is missing"))?;
        if tid <= moment.to {
            list.push(tid, number, oid)?;
        }
    }
    // Rule 4.4: transactions without a revision. Earlier packs left none before their time.
    let mut from = tables.facts.packed_to;
    while let Some((tid, head)) = tables.head_in(from, moment.to, false)? {
        if head.revisions.is_empty() {
            list.push(tid, ITSELF, Oid::ROOT)?;
        }
        from = tid.next();
        if from == tid {
            break;
        }
    }
    list.flush()
}

/// In the place of a revision's number: the transaction has none, and goes.
const ITSELF: u64 = 0;

/// The revisions that are to be listed next.
struct List<'a, 'h> {
    shared: &'a Shared,
    alone: &'a mut Alone<'h>,
    waiting: Vec<(Tid, u64, Oid)>,
}

impl List<'_, '_> {
    fn push(&mut self, tid: Tid, number: u64, oid: Oid) -> Result<()> {
        self.waiting.push((tid, number, oid));
        if self.waiting.len() >= self.alone.pace(self.shared).rows_max { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.waiting.sort_unstable();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        let pace = self.alone.pace(self.shared);
        while waiting.peek().is_some() {
            self.alone.change(self.shared, |tables, _| {
                let step = (0..).take_while(|rows| pace.goes_on(*rows)).zip(&mut waiting);
                step.map(|(_, listed)| listed).try_for_each(|(tid, number, oid)| {
                    let done = tables.doomed.insert((tid.0, number), oid.0).map(drop);
                    done.map_err(|e| tables.trouble(e))
                })
            })?;
        }
        Ok(())
    }
}

/// Throws the list away.
fn forget(shared: &Shared, alone: &mut Alone<'_>) -> Result<()> {
    let pace = alone.pace(shared);
    loop {
        let is_empty = {
            let now = shared.store.now();
            now.tables.doomed.first().map_err(|e| now.tables.trouble(e))?.is_none()
        };
        if is_empty {
            return Ok(());
        }
        alone.change(shared, |tables, _| {
            for _ in (0..).take_while(|rows| pace.goes_on(*rows)) {
                if tables.doomed.pop_first().map_err(|e| crate::tables::trouble(&shared.store.path, e))?.is_none() {
                    break;
                }
            }
            Ok(())
        })?;
    }
}

/// Makes the pack visible, if no concurrent transaction needs what is doomed; and tells the listeners.
fn switch(
    shared: &Shared,
    moment: &Moment<'_>,
    survivors: &Survivors,
    how: PackOptions,
    alone: &mut Alone<'_>,
) -> Result<bool> {
    let (mut turn, judging) = match alone.0.take() {
        Some(held) => held,
        None => {
            let turn = shared.store.turn();
            (turn, shared.judging.write())
        }
    };
    let is_needed = |now: &Snapshot| -> Result<bool> {
        let voted: Vec<_> = shared.voted.lock().values().cloned().collect();
        moment.needs_more(now, &voted, survivors, how.collect)
    };
    if is_needed(&shared.store.now())? {
        return Ok(false);
    }
    let to = moment.to;
    let named: Vec<Oid> =
        shared.voted.lock().values().flat_map(|writes| free::names(writes)).map(|(oid, _)| oid).collect();
    shared.store.change(&mut turn, |tables, _| {
        tables.facts.packed_to = to;
        tables.facts.is_sweeping = true;
        tables.spare_only(&named)
    })?;
    drop(judging);
    let _telling = shared.telling.lock();
    drop(turn);
    shared.listeners.tell(|| Event::Packed { to });
    Ok(true)
}

/// Removes what is listed, and then the blobs of it: a file that cannot be removed leaves no row behind.
fn sweep(shared: &Shared) -> Result<()> {
    while shared.store.now().tables.facts.is_sweeping {
        shared.store.change(&mut shared.store.turn(), |tables, _| step(tables, &shared.pace()))?;
    }
    remove_unowned(shared)
}

/// Removes the first rows of the list.
fn step(tables: &mut Tables<Writing<'_>>, pace: &Pace<'_>) -> Result<()> {
    let mut by_transaction: BTreeMap<Tid, Vec<(u64, Oid)>> = BTreeMap::new();
    for _ in (0..).take_while(|rows| pace.goes_on(*rows)) {
        let first = tables.doomed.pop_first().map_err(|e| crate::tables::trouble(&tables.path, e))?;
        let Some((key, oid)) = first.map(|(key, oid)| (key.value(), oid.value())) else { break };
        let (tid, number, oid) = (Tid(key.0), key.1, Oid(oid));
        by_transaction.entry(tid).or_default().push((number, oid));
        if number != ITSELF {
            tables.remove(oid, tid, number, &mut Vec::new())?;
        }
    }
    unname(tables, by_transaction)?;
    if tables.doomed.first().map_err(|e| crate::tables::trouble(&tables.path, e))?.is_none() {
        tables.facts.is_sweeping = false;
    }
    Ok(())
}

/// Takes removed revisions, which are in the order of their numbers, out of their transactions. A transaction without
/// revisions goes.
fn unname(tables: &mut Tables<Writing<'_>>, by_transaction: BTreeMap<Tid, Vec<(u64, Oid)>>) -> Result<()> {
    let last = tables.last()?;
    for (tid, removed) in by_transaction {
        let missing = || tables.damaged("transactions", tid, "it is missing, and a revision of it is doomed");
        let mut head = tables.head(tid)?.ok_or_else(missing)?;
        head.revisions.retain(|(_, number)| removed.binary_search_by_key(number, |(number, _)| *number).is_err());
        // The last transaction stays, so that no tid is given out twice.
        let done = match head.revisions.is_empty() && tid != last {
            true => tables.transactions.remove(tid.0).map(drop),
            false => tables.transactions.insert(tid.0, &head.encode()[..]).map(drop),
        };
        done.map_err(|e| tables.trouble(e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vellum_disk::SimDisk;
    use vellum_harness::node::Node;
    use vellum_storage::{Bytes, TransactionMeta, Version};

    use super::*;
    use crate::Options;

    /// A record that refers to these objects.
    fn record(to: &[u64]) -> Bytes {
        Node { strong: to.iter().copied().map(Oid).collect(), ..Node::default() }.encode()
    }

    fn store(storage: &TableStorage, oid: u64, serial: Tid, to: &[u64]) -> Tid {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(oid), serial, record(to)).unwrap();
        storage.commit(draft).unwrap()
    }

    /// Rule 4.9: what is done after the collector has looked, and whether the pack must begin again.
    fn must_begin_again(work: impl FnOnce(&TableStorage, [Tid; 4]) -> Option<vellum_storage::Voted>) -> bool {
        let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create("site.vellum").unwrap();
        let root = store(&storage, 0, Tid::ZERO, &[1]);
        let first = store(&storage, 1, Tid::ZERO, &[]);
        let second = store(&storage, 1, first, &[]);
        // Garbage.
        let garbage = store(&storage, 2, Tid::ZERO, &[]);
        let snapshot = storage.shared.store.now_full();
        let moment = Moment::new(&snapshot, snapshot.last, &[]);
        let survivors = collect(&moment, Collecting::new().collect(true)).unwrap();
        let _voted = work(&storage, [root, first, second, garbage]);
        let voted: Vec<_> = storage.shared.voted.lock().values().cloned().collect();
        moment.needs_more(&storage.shared.store.now(), &voted, &survivors, true).unwrap()
    }

    #[test]
    fn a_concurrent_transaction_that_needs_nothing_more_does_not_stop_a_pack() {
        assert!(!must_begin_again(|storage, [root, _, second, _]| {
            store(storage, 0, root, &[1]);
            store(storage, 1, second, &[0]);
            store(storage, 3, Tid::ZERO, &[1]);
            None
        }));
    }

    #[test]
    fn a_concurrent_change_of_garbage_makes_a_pack_begin_again() {
        assert!(must_begin_again(|storage, [.., garbage]| {
            store(storage, 2, garbage, &[]);
            None
        }));
    }

    #[test]
    fn a_concurrent_reference_to_garbage_makes_a_pack_begin_again() {
        assert!(must_begin_again(|storage, [root, ..]| {
            store(storage, 0, root, &[1, 2]);
            None
        }));
    }

    #[test]
    fn a_vote_that_shares_a_discarded_record_makes_a_pack_begin_again() {
        assert!(must_begin_again(|storage, [_, _, second, _]| {
            let mut draft = storage.begin(TransactionMeta::new()).unwrap();
            draft.undo(second).unwrap();
            Some(storage.vote(draft).unwrap())
        }));
    }

    /// The second pack lists what the first one kept.
    #[test]
    fn a_list_hides_nothing_before_the_switch() {
        let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create("site.vellum").unwrap();
        let root = store(&storage, 0, Tid::ZERO, &[1]);
        store(&storage, 1, Tid::ZERO, &[]);
        let pack = || Pack::pack(&storage, Tid::MAX, PackOptions::default().collect(true)).unwrap();
        pack();
        store(&storage, 0, root, &[]);
        let is_there = || storage.load(Oid(1), &Version::TRUNK).is_ok();
        let snapshot = storage.shared.store.now_full();
        let moment = Moment::new(&snapshot, snapshot.last, &[]);
        let survivors = collect(&moment, Collecting::new().collect(true)).unwrap();
        doom(&storage.shared, &moment, &survivors, &mut Alone::default()).unwrap();
        assert!(is_there());
        // As if the process had ended here.
        go_on(&storage.shared).unwrap();
        assert!(is_there());
        pack();
        assert!(!is_there());
    }
}
