//! Packing by counts (rule 4.11): it looks at what was written since the last pack, and at the objects to which no
//! record refers. So its cost does not depend on the size of the database.
//!
//! ```text
//!   count    bring the counts up to date                          nothing else is changed
//!   tidy     the objects that a voted transaction spared          at the time of the last pack
//!   forget   some transactions after the time of the last pack    that time moves on: the database is packed to it
//!   free     objects in `unheld` go, with all revisions           that lowers counts, and adds more to `unheld`
//! ```
//!
//! Each stage is a row of steps. A step is one transaction of the store, and what it leaves is a database by the rules:
//! packed to an earlier time, or with a part of the garbage. So nothing needs to be listed before, there is nothing to
//! hide from readers, and a crash or a stop between two steps loses nothing: the next pack goes on.
//!
//! A step holds the right to write, and no transaction votes during it. So it sees all references that there are: those
//! of the records, which it counts to the last, and those of the voted transactions (rule 4.9). An object that is
//! written or referred to by a voted transaction stays in `unheld`, for the next pack.
//!
//! **The list of work is the table `unheld`.** A step keeps in memory only what fell during it. So a chain of any
//! length goes in steps of bounded size. A step of the stage *forget* takes at least one transaction, however large
//! that is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redb::ReadableTable;
use vellum_pickle::{Reference, Scanner};
use vellum_storage::{Content, Counts, Error, Event, Oid, Result, Tid, Write};
use vellum_sync::atomic::Ordering;

use super::{Pace, go_on, last_packed, unname};
use crate::blobs::remove_unowned;
use crate::row::Row;
use crate::storage::{Shared, TableStorage};
use crate::store::Turn;
use crate::tables::{Access, Tables, Writing, door, trouble};

impl Counts for TableStorage {
    fn pack_by_counts(&self, to: Tid) -> Result<()> {
        TableStorage::pack_by_counts(self, to)
    }
}

impl TableStorage {
    /// Packs to a time by counts (rule 4.11): old revisions go, and objects to which no record refers. Garbage that
    /// refers to itself in a circle stays until a pack with collection.
    ///
    /// # Errors
    ///
    /// Read-only; a pack that is running; a record that may hide references ([`Error::Unreadable`]); a database without
    /// a root ([`Error::Dangling`]). The last two are found before anything is changed, unless a concurrent transaction
    /// brings them.
    pub fn pack_by_counts(&self, to: Tid) -> Result<()> {
        self.shared.writable()?;
        let _packing = self.shared.begin_packing()?;
        let mut pack = ByCounts::new(to);
        while pack.step(&self.shared)? {}
        Ok(())
    }
}

/// A pack by counts, step by step.
pub(crate) struct ByCounts {
    to: Tid,
    /// Whether objects stay if a record may refer into another database.
    stops_at_foreign: bool,
    stage: Stage,
    voted: VotedNeeds,
    /// The last number of a revision, when this last counted.
    seen: Option<u64>,
}

enum Stage {
    Begin,
    Count,
    /// From this object on.
    Tidy(u64),
    Forget,
    /// From this object on.
    Free(u64),
    Done,
}

/// The needs of the voted transactions, each with its writes, by which it is known again.
#[derive(Default)]
struct VotedNeeds(Vec<(Arc<Vec<Write>>, Needs)>);

struct Needs {
    /// The objects that it writes, and those that its records refer to.
    oids: BTreeSet<Oid>,
    /// The revisions that it names as a source or as a base.
    names: Vec<(Oid, Tid)>,
}

/// The revisions that a transaction names as a source or as a base.
pub(super) fn names(writes: &[Write]) -> impl Iterator<Item = (Oid, Tid)> {
    writes.iter().flat_map(|Write { oid, base, content, .. }| {
        let source = if let Content::Shared(source) = content { Some(*source) } else { None };
        [source, *base].into_iter().flatten().map(|tid| (*oid, tid))
    })
}

impl Needs {
    fn of(writes: &[Write]) -> Result<Needs> {
        let mut oids: BTreeSet<Oid> = writes.iter().map(|write| write.oid).collect();
        let mut scanner = Scanner::new();
        for Write { oid, content, .. } in writes {
            let Content::Data(data) = content else { continue };
            let scanned = scanner.scan_all(&data.bytes()?, |reference| {
                if let Reference::Strong { oid, .. } = reference {
                    oids.insert(Oid(oid));
                }
            });
            // Rule 4.10.
            scanned.map_err(|why| Error::Unreadable {
                oid: *oid,
                why: why.to_string(),
                is_encrypted: why.is_encrypted(),
            })?;
        }
        Ok(Needs { oids, names: names(writes).collect() })
    }
}

impl VotedNeeds {
    /// Looks at the voted transactions; no other votes now.
    fn look(&mut self, shared: &Shared) -> Result<()> {
        let voted: Vec<_> = shared.voted.lock().values().cloned().collect();
        self.0.retain(|(known, _)| voted.iter().any(|writes| Arc::ptr_eq(known, writes)));
        for writes in voted {
            if !self.0.iter().any(|(known, _)| Arc::ptr_eq(known, &writes)) {
                let needs = Needs::of(&writes)?;
                self.0.push((writes, needs));
            }
        }
        Ok(())
    }

    fn needs(&self, oid: Oid) -> bool {
        self.0.iter().any(|(_, needs)| needs.oids.contains(&oid))
    }

    fn names(&self) -> HashMap<Oid, Vec<Tid>> {
        let mut names: HashMap<Oid, Vec<Tid>> = HashMap::new();
        for (oid, tid) in self.0.iter().flat_map(|(_, needs)| &needs.names) {
            names.entry(*oid).or_default().push(*tid);
        }
        names
    }
}

impl ByCounts {
    pub fn new(to: Tid) -> ByCounts {
        ByCounts { to, stops_at_foreign: false, stage: Stage::Begin, voted: VotedNeeds::default(), seen: None }
    }

    /// Frees no object if a record may refer into another database: only old revisions go then.
    pub fn stops_at_foreign(self) -> ByCounts {
        ByCounts { stops_at_foreign: true, ..self }
    }

    /// Does one step; the caller holds the right to pack. False: there is nothing left to do.
    pub fn step(&mut self, shared: &Shared) -> Result<bool> {
        go_on(shared)?;
        self.stage = match self.stage {
            Stage::Begin => self.begin(shared)?,
            Stage::Count => self.count(shared)?,
            Stage::Tidy(from) => self.tidy(shared, from)?,
            Stage::Forget => self.forget(shared)?,
            Stage::Free(from) => self.free(shared, from)?,
            Stage::Done => Stage::Done,
        };
        remove_unowned(shared)?;
        Ok(!matches!(self.stage, Stage::Done))
    }

    /// The same for a caller that does not hold the right to pack: another pack may come between two steps.
    pub fn step_beside(&mut self, shared: &Shared) -> Result<bool> {
        shared.is_stepping.store(true, Ordering::SeqCst);
        let done = {
            let _packing = shared.packing.lock();
            self.step(shared)
        };
        shared.is_stepping.store(false, Ordering::SeqCst);
        done
    }

    fn begin(&mut self, shared: &Shared) -> Result<Stage> {
        let now = shared.store.now_full();
        // Rule 4.12.
        if !now.tables.facts.is_history_free && self.to < last_packed(&now.tables)? {
            return Ok(Stage::Done);
        }
        self.to = self.to.min(now.last).max(now.tables.facts.packed_to);
        // Rule 4.8.
        if now.tables.object_from(Oid::ROOT)?.is_some_and(|first| first != Oid::ROOT) {
            return Err(Error::Dangling { references: vec![(Oid::ROOT, Oid::ROOT)] });
        }
        Ok(Stage::Count)
    }

    fn count(&mut self, shared: &Shared) -> Result<Stage> {
        let mut turn = shared.store.turn();
        let last = turn.number;
        let is_all = shared.store.now().tables.facts.counted >= last
            || shared.store.change(&mut turn, |tables, _| count_some(tables, last, &mut self.seen, &shared.pace()))?;
        if !is_all {
            return Ok(Stage::Count);
        }
        let _judging = shared.judging.write();
        self.voted.look(shared)?;
        let untold = shared.store.now().tables.facts.untold;
        if untold > 0 {
            let now = shared.store.now();
            return door(&shared.store.path, || Err(now.tables.untold_error()));
        }
        Ok(Stage::Tidy(0))
    }

    /// Looks again at the objects of which a pack kept more than the rules say.
    fn tidy(&mut self, shared: &Shared, from: u64) -> Result<Stage> {
        let mut turn = shared.store.turn();
        let _judging = shared.judging.write();
        let spared: Vec<Oid> = door(&shared.store.path, || {
            let now = shared.store.now();
            let range = now.tables.spared.range(from..).map_err(|e| now.tables.trouble(e))?;
            let some = range.take(shared.options.step_rows);
            some.map(|found| Ok(Oid(found.map_err(|e| now.tables.trouble(e))?.0.value()))).collect()
        })?;
        if spared.is_empty() {
            return Ok(Stage::Forget);
        }
        self.voted.look(shared)?;
        let (names, pace) = (self.voted.names(), shared.pace());
        let next = shared.store.change(&mut turn, |tables, _| {
            let to = tables.facts.packed_to;
            let (mut next, mut doomed) = (None, Doomed::new());
            for (n, oid) in spared.iter().enumerate() {
                next = Some(*oid);
                if !pace.goes_on(n) {
                    break;
                }
                next = oid.0.checked_add(1).map(Oid);
                let done = tables.spared.remove(oid.0).map(drop);
                done.map_err(|e| tables.trouble(e))?;
                doom(tables, *oid, to, &names, &mut doomed)?;
            }
            remove(tables, doomed)?;
            Ok(next)
        })?;
        Ok(next.map_or(Stage::Forget, |next| Stage::Tidy(next.0)))
    }

    /// Rule 4.4: forgets what some transactions have made old.
    fn forget(&mut self, shared: &Shared) -> Result<Stage> {
        let mut turn = shared.store.turn();
        let judging = shared.judging.write();
        let (before, is_left_empty) = {
            let now = shared.store.now();
            (now.tables.facts.packed_to, now.tables.is_left_empty()?)
        };
        if before >= self.to && !is_left_empty {
            return Ok(Stage::Free(0));
        }
        self.voted.look(shared)?;
        let (names, to) = (self.voted.names(), self.to);
        let packed_to = shared.store.change(&mut turn, |tables, _| forget_some(tables, to, &names, &shared.pace()))?;
        drop(judging);
        let _telling = shared.telling.lock();
        drop(turn);
        shared.listeners.tell(|| Event::Packed { to: packed_to });
        Ok(Stage::Forget)
    }

    /// Removes some objects to which nothing refers.
    fn free(&mut self, shared: &Shared, from: u64) -> Result<Stage> {
        let mut turn = shared.store.turn();
        let judging = shared.judging.write();
        if self.stops_at_foreign && shared.store.now().tables.facts.is_one_of_several {
            return Ok(Stage::Done);
        }
        self.voted.look(shared)?;
        let (voted, to, seen) = (&self.voted, self.to, &mut self.seen);
        if shared.store.now().tables.facts.counted >= turn.number && !is_any_unheld(shared, from)? {
            return Ok(Stage::Done);
        }
        let next = shared.store.change(&mut turn, |tables, last| {
            let is_all = count_some(tables, *last, seen, &shared.pace())?;
            if tables.facts.untold > 0 {
                return Err(tables.untold_error());
            }
            if is_all { free_from(tables, from, to, voted, &shared.pace()) } else { Ok(Stage::Free(from)) }
        })?;
        drop(judging);
        let _telling = shared.telling.lock();
        drop(turn);
        shared.listeners.tell(|| Event::Packed { to });
        Ok(next)
    }
}

fn is_any_unheld(shared: &Shared, from: u64) -> Result<bool> {
    door(&shared.store.path, || {
        let now = shared.store.now();
        Ok(now.tables.unheld.range(from..).map_err(|e| now.tables.trouble(e))?.next().is_some())
    })
}

/// Revisions that go, by their transactions.
type Doomed = BTreeMap<Tid, Vec<(u64, Oid)>>;

/// Rules 4.2 to 4.4: all revisions of an object up to the time, but the newest one, its base, and what later ones name.
fn doom(
    tables: &mut Tables<Writing<'_>>,
    oid: Oid,
    to: Tid,
    voted: &HashMap<Oid, Vec<Tid>>,
    doomed: &mut Doomed,
) -> Result<()> {
    let mut kept = BTreeSet::new();
    if tables.facts.is_history_free {
        // Rule 4.12: later ones name nothing else. So no commit reads all that the grace keeps.
        let newest = tables.object(oid)?.filter(|(tid, _)| *tid <= to);
        if let Some((tid, row)) = newest.map_or_else(|| tables.older_before(oid, to.next()), |at| Ok(Some(at)))? {
            kept.insert(tid);
            kept.extend(row.base);
        }
    } else {
        keep_named(tables, oid, to, &mut kept)?;
    }
    if let Some(names) = voted.get(&oid) {
        kept.extend(names);
        tables.spare(oid)?;
    }
    for found in rows(tables, oid, Tid::ZERO, to)? {
        let (tid, row) = found?;
        if !kept.contains(&tid) {
            doomed.entry(tid).or_default().push((row.number, oid));
        }
    }
    Ok(())
}

/// Rules 4.2 and 4.3, where any older revision can be named.
fn keep_named(tables: &Tables<Writing<'_>>, oid: Oid, to: Tid, kept: &mut BTreeSet<Tid>) -> Result<()> {
    let mut past = tables.past(oid);
    if let Some(at) = past.find(|at| at.as_ref().map_or(true, |at| at.tid <= to)).transpose()? {
        kept.insert(at.tid);
        kept.extend(at.row.base);
    }
    for found in rows(tables, oid, to.next(), Tid::MAX)? {
        let (tid, row) = found?;
        if tid <= to {
            continue;
        }
        kept.extend([row.source, row.base].into_iter().flatten());
        for row in written_over(tables, oid, tid, row.number)? {
            kept.extend([row.source, row.base].into_iter().flatten());
        }
    }
    Ok(())
}

/// The rows of an object in a range of transactions.
fn rows<'a>(
    tables: &'a Tables<Writing<'_>>,
    oid: Oid,
    first: Tid,
    last: Tid,
) -> Result<impl Iterator<Item = Result<(Tid, Row)>> + 'a> {
    let newest = tables.object(oid)?.filter(|(tid, _)| *tid >= first && *tid <= last);
    let past = tables.past.range((oid.0, first.0)..=(oid.0, last.0)).map_err(|e| tables.trouble(e))?;
    let past = past.map(move |found| {
        let (key, row) = found.map_err(|e| tables.trouble(e))?;
        let tid = Tid(key.value().1);
        let row = Row::decode(row.value());
        Ok((tid, row.map_err(|why| tables.damaged("past", format_args!("{oid} {tid}"), why))?))
    });
    Ok(past.chain(newest.map(Ok)))
}

/// The revisions of an object that this transaction wrote over.
fn written_over(tables: &Tables<Writing<'_>>, oid: Oid, tid: Tid, last: u64) -> Result<Vec<Row>> {
    if tables.overwritten.first().map_err(|e| trouble(&tables.path, e))?.is_none() {
        return Ok(Vec::new());
    }
    let Some(head) = tables.head(tid)? else { return Ok(Vec::new()) };
    let numbers = head.revisions.into_iter().filter(|(of, number)| *of == oid && *number != last);
    numbers.filter_map(|(_, number)| tables.overwritten(number).transpose()).collect()
}

impl<A: Access> Tables<A> {
    /// Whether a pack left the last transaction without revisions, and it is not the last any more.
    fn is_left_empty(&self) -> Result<bool> {
        let before = self.facts.packed_to;
        let head = self.head(before)?.filter(|head| head.revisions.is_empty());
        Ok(head.is_some() && before != self.last()?)
    }
}

/// Rule 4.4: forgets what some transactions have made old, the first ones after the time of the last pack, and not
/// later than `to`. It goes on while there is `more` to do, which is asked with the number of transactions and of
/// objects so far. Returns the time to which the database is packed then.
fn forget_to(
    tables: &mut Tables<Writing<'_>>,
    to: Tid,
    voted: &HashMap<Oid, Vec<Tid>>,
    more: impl Fn(usize, usize) -> bool,
) -> Result<Tid> {
    let before = tables.facts.packed_to;
    let mut doomed = Doomed::new();
    if tables.is_left_empty()? {
        doomed.insert(before, Vec::new());
    }
    let (mut from, mut packed_to, mut touched, mut transactions) = (before.next(), to, BTreeSet::new(), 0);
    while let Some((tid, head)) = tables.head_in(from, to, false)? {
        if !more(transactions, touched.len()) {
            break;
        }
        transactions += 1;
        // Without a revision it goes, too.
        let old = doomed.entry(tid).or_default();
        for (oid, number) in head.revisions {
            touched.insert(oid);
            if tables.row(oid, tid)?.is_none_or(|row| row.number != number) {
                old.push((number, oid));
            }
        }
        packed_to = tid;
        match tid < to {
            true => from = tid.next(),
            false => break,
        }
    }
    if tables.head_in(packed_to.next(), to, false)?.is_none() {
        packed_to = to;
    }
    for oid in touched {
        doom(tables, oid, packed_to, voted, &mut doomed)?;
    }
    tables.facts.packed_to = packed_to;
    remove(tables, doomed)?;
    Ok(packed_to)
}

/// Counts the references of some records up to the last one. True: all are counted. It counts twice as many as came
/// since it was called before, so that no row of large commits keeps it from its end.
fn count_some(tables: &mut Tables<Writing<'_>>, last: u64, seen: &mut Option<u64>, pace: &Pace<'_>) -> Result<bool> {
    let came = last - seen.replace(last).unwrap_or(last).min(last);
    let least = tables.facts.counted.saturating_add(came.saturating_mul(2));
    let (mut work, mut is_all) = (0, false);
    while !is_all && (tables.facts.counted < least || pace.goes_on(work)) {
        is_all = tables.count_on(last, pace.rows_min)?;
        work += pace.rows_min;
    }
    Ok(is_all)
}

/// Rule 4.4: forgets what some transactions have made old, until so many objects are looked at.
fn forget_some(
    tables: &mut Tables<Writing<'_>>,
    to: Tid,
    voted: &HashMap<Oid, Vec<Tid>>,
    pace: &Pace<'_>,
) -> Result<Tid> {
    let mut work = 0;
    loop {
        let packed_to = forget_to(tables, to, voted, |_, objects| objects < pace.rows_min)?;
        work += pace.rows_min;
        if packed_to == to || !pace.goes_on(work) {
            return Ok(packed_to);
        }
    }
}

/// Rule 4.12: one commit forgets at most so many transactions, so that none has to do the work of many.
const FORGOTTEN_AT_ONCE: usize = 4;

/// Changes the tables in one step, as [`Store::change`](crate::store::Store::change), and forgets in it. An old row
/// that is damaged is no reason to refuse a new transaction: then the step is done again, and nothing is forgotten, nor
/// later.
pub(crate) fn change_and_forget<T>(
    shared: &Shared,
    turn: &mut Turn,
    mut change: impl FnMut(&mut Tables<Writing<'_>>, &mut u64, &mut Forgetting) -> Result<T>,
) -> Result<T> {
    loop {
        let is_on = !turn.is_packing && !turn.forgets_nothing;
        let mut forgetting = Forgetting { grace: shared.options.grace, is_on, is_under_way: false };
        let done = shared.store.change(turn, |tables, number| change(tables, number, &mut forgetting));
        let Err(error) = &done else { return done };
        if !forgetting.is_under_way || shared.store.is_failed() {
            return done;
        }
        turn.forgets_nothing = true;
        let name = shared.name();
        tracing::warn!("{name}: what is old stays until the next opening, since it cannot be removed: {error}");
    }
}

/// Rule 4.12: so many transactions whose tids follow each other without a gap show that the clock is behind them.
const WITHOUT_CLOCK: u64 = 4096;

impl Tables<Writing<'_>> {
    /// Rule 4.12: the time up to which a transaction forgets in any case: zero, unless the clock is behind.
    fn counted_on(&self, tid: Tid) -> Result<Tid> {
        let Some(first) = tid.0.checked_sub(WITHOUT_CLOCK) else { return Ok(Tid::ZERO) };
        // As a rule there is none there.
        if self.transactions.get(first).map_err(|e| self.trouble(e))?.is_none() {
            return Ok(Tid::ZERO);
        }
        let found = self.transactions.range(first..=tid.0).map_err(|e| self.trouble(e))?.count() as u64;
        Ok(if found > WITHOUT_CLOCK { Tid(first) } else { Tid::ZERO })
    }
}

/// Forgetting with the transactions of one step (rule 4.12).
pub(crate) struct Forgetting {
    grace: Duration,
    is_on: bool,
    /// Whether it goes on, or failed.
    is_under_way: bool,
}

impl Forgetting {
    /// Forgets what was old so long before the transaction that was just written.
    pub fn after(&mut self, tables: &mut Tables<Writing<'_>>, tid: Tid) -> Result<()> {
        if !self.is_on {
            return Ok(());
        }
        self.is_under_way = true;
        forget_with(tables, tid, self.grace)?;
        self.is_under_way = false;
        Ok(())
    }
}

/// Rule 4.12: in a history-free database, forgets what was old so long before the transaction that was just written.
///
/// It needs no look at voted transactions. They hold their objects, and name only the newest revisions of these and
/// the bases of those (`Past::find`), which are kept as long as no other transaction changes the objects.
fn forget_with(tables: &mut Tables<Writing<'_>>, tid: Tid, grace: Duration) -> Result<()> {
    // A sweep that failed goes on with the next pack.
    if !tables.facts.is_history_free || tables.facts.is_sweeping {
        return Ok(());
    }
    let to = tid.earlier_by(grace).max(tables.counted_on(tid)?);
    if tables.head_in(tables.facts.packed_to.next(), to, false)?.is_some() {
        forget_to(tables, to, &HashMap::new(), |transactions, _| transactions < FORGOTTEN_AT_ONCE)?;
    }
    Ok(())
}

/// Removes revisions, and takes them out of their transactions.
fn remove(tables: &mut Tables<Writing<'_>>, mut doomed: Doomed) -> Result<()> {
    for (tid, revisions) in &mut doomed {
        revisions.sort_unstable();
        for (number, oid) in revisions {
            tables.remove(*oid, *tid, *number, &mut Vec::new())?;
        }
    }
    unname(tables, doomed)
}

/// Removes objects of `unheld`, from one on; those that fall come first.
fn free_from(
    tables: &mut Tables<Writing<'_>>,
    from: u64,
    to: Tid,
    voted: &VotedNeeds,
    pace: &Pace<'_>,
) -> Result<Stage> {
    let (mut next, mut fell, mut doomed, mut work) = (Some(from), Vec::new(), Doomed::new(), 0);
    while pace.goes_on(work) {
        let oid = match (fell.pop(), next) {
            (Some(oid), _) => oid,
            (None, None) => break,
            (None, Some(from)) => {
                let found = tables.unheld.range(from..).map_err(|e| tables.trouble(e))?.next().transpose();
                let found = found.map_err(|e| tables.trouble(e))?.map(|(oid, _)| oid.value());
                next = found.and_then(|oid| oid.checked_add(1));
                let Some(oid) = found else { break };
                Oid(oid)
            }
        };
        if tables.holders_of(oid)? > 0 {
            return Err(tables.damaged("unheld", oid, "records refer to the object"));
        }
        let newest = tables.object(oid)?;
        if newest.is_none_or(|(newest, _)| newest > to) || voted.needs(oid) {
            work += 1;
            continue;
        }
        let already = fell.len();
        let all = rows(tables, oid, Tid::ZERO, to)?.collect::<Result<Vec<_>>>()?;
        for (tid, row) in all {
            tables.remove(oid, tid, row.number, &mut fell)?;
            doomed.entry(tid).or_default().push((row.number, oid));
            work += 1;
        }
        // Less work than a row.
        work += fell.len().saturating_sub(already) / 4;
    }
    doomed.values_mut().for_each(|revisions| revisions.sort_unstable());
    unname(tables, doomed)?;
    // Those that fell, and were not looked at, may be before this place.
    let first = fell.into_iter().map(|oid| oid.0).chain(next).min();
    Ok(first.map_or(Stage::Done, Stage::Free))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use vellum_disk::SimDisk;
    use vellum_harness::node::Node;
    use vellum_storage::{Order, TidRange, TransactionMeta};

    use super::*;
    use crate::Options;

    fn made(step_rows: usize) -> TableStorage {
        Options::new().disk(Arc::new(SimDisk::new(0))).step_rows(step_rows).create("site.vellum").unwrap()
    }

    /// Objects that each refer to the one so far behind it; 0 is itself.
    fn commit(storage: &TableStorage, oids: std::ops::Range<u64>, behind: u64) {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        for oid in oids {
            let record = Node { strong: vec![Oid(oid + behind)], ..Node::default() }.encode();
            draft.store(Oid(oid), Tid::ZERO, record).unwrap();
        }
        storage.commit(draft).unwrap();
    }

    fn revisions(storage: &TableStorage) -> usize {
        let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
        all.map(|transaction| transaction.unwrap().revisions.len()).sum()
    }

    /// Runs the first step of a stage on 200 objects that are garbage, each of an own transaction.
    fn first_step(waits: bool) -> (u64, u64, usize) {
        let storage = made(64);
        (0..200).for_each(|oid| commit(&storage, oid..oid + 1, 1_000_000));
        let shared = &storage.shared;
        thread::scope(|scope| {
            let mut turn = shared.store.turn();
            if waits {
                scope.spawn(|| drop(shared.store.turn()));
                while !shared.is_awaited() {
                    thread::yield_now();
                }
            }
            let (to, pace) = (storage.last_transaction(), shared.pace());
            let mut change = |change: &mut dyn FnMut(&mut Tables<Writing<'_>>) -> Result<()>| {
                shared.store.change(&mut turn, |tables, _| change(tables)).unwrap();
            };
            change(&mut |tables| count_some(tables, 200, &mut None, &pace).map(drop));
            change(&mut |tables| forget_some(tables, to, &HashMap::new(), &pace).map(drop));
            let (counted, packed_to) = {
                let facts = shared.store.now().tables.facts;
                (facts.counted, facts.packed_to)
            };
            let packed = storage.transactions(TidRange { last: packed_to, ..TidRange::ALL }, Order::OldestFirst);
            let packed = packed.unwrap().count() as u64;
            change(&mut |tables| {
                while !count_some(tables, 200, &mut None, &pace)? {}
                Ok(())
            });
            change(&mut |tables| free_from(tables, 0, to, &VotedNeeds::default(), &pace).map(drop));
            drop(turn);
            (counted, packed, revisions(&storage))
        })
    }

    #[test]
    fn each_stage_ends_its_step_early_if_a_thread_waits() {
        assert_eq!(first_step(false), (32, 64, 200 - 64));
        assert_eq!(first_step(true), (4, 8, 200 - 8));
    }

    /// Each time, ten objects come between two steps that count one.
    #[test]
    fn a_pack_beside_large_commits_ends() {
        let storage = made(1);
        commit(&storage, 0..1, 0);
        let mut pack = ByCounts::new(Tid::MAX);
        let steps = (0..100).take_while(|n| {
            commit(&storage, n * 10 + 1..n * 10 + 11, 0);
            pack.step(&storage.shared).unwrap()
        });
        assert!(steps.count() < 20);
    }
}
