//! Packing (part 4 of the rules): a new file with what survives, made beside the old one and put in its place.
//!
//! ```text
//!            what is packed        what stays as it is         commits go on
//!   Data.fs       │ t t t t t t t t │ t t t t t t t t t t t t t │ t t t        the old generation
//!                 └──┐              └┐                        └┐ └───┐
//!   Data.fs.pack  │ p  p  p  p       │ t t t t t t t t t t t t t │ t t t        the next one
//!                 1. collect, copy   2. copy                     3. catch up · hold · sync · rename
//! ```
//!
//! 1. The **moment** (`moment.rs`) answers the collector's questions about the file as it was when the pack began, and
//!    the collector says what survives. That is copied in file order (`copy.rs`), each record with its own data.
//! 2. Transactions later than the pack's time are copied unchanged, except for the positions in them.
//! 3. Concurrent transactions are copied too, until few are left. Then commits are held back: the rest of
//!    it is copied and synced, the new file gets the name of the old one (`switch.rs`), and the next generation takes
//!    the place of this one. Readers never wait: a reader of the old file continues with it.
//!
//! **Concurrent transactions count as later** (rule 4.9), whether committed or voted (`pledge.rs`). The collector did
//! not see them, so each is checked against the survivors. If one refers to collected garbage, or shares data of a
//! discarded revision, the pack restarts with that knowledge. At the third attempt no other thread may commit, so that
//! the pack ends.
//!
//! **At every moment there is a database.** The new file is complete and synced before it gets the name, and to rename
//! is one step: a crash leaves the old file or the new one. On an error the half-made file goes away, and everything is
//! as it was. The `.index` is taken away before, and made again after: there is no moment at which one lies beside a
//! file that it does not belong to.

mod blobs;
mod copy;
mod moment;
mod sink;
mod switch;
mod watch;

use std::cell::RefCell;
use std::sync::Arc;

use vellum_storage::{Collecting, Error, Event, Result, Survivors, Tid, collect};
use vellum_sync::MutexGuard;

use crate::format::START;
use crate::read::database::Database;
use crate::read::generation::Generation;
use crate::read::horizon::Horizon;
use crate::read::log::Log;
use crate::read::room::Room;
use crate::write::append::Broken;
use crate::write::pledge::Pledge;
use crate::write::record::NewRecord;
use crate::write::writer::Writer;

use blobs::Forgotten;
pub(crate) use blobs::finish_left;
use copy::Copy;
use moment::Moment;
use sink::{Committing, Sink};
use switch::{HalfMade, Old};
pub use watch::{Extent, Fate, PackStep, PackWatch, Packed, Packing, Unwatched};

/// So often a pack is tried beside commits, before it holds them back from its beginning.
const ATTEMPTS_BESIDE_COMMITS: u32 = 2;

/// Concurrent transactions are copied beside further commits while there are more of them than this, and at most so
/// often.
const HELD_BYTES_MAX: u64 = 256 << 10;
const CATCH_UPS_MAX: u32 = 16;

/// Why an attempt ends.
enum Stop {
    Error(Error),
    /// The state of the disk is unknown.
    Fatal(Error),
    /// A concurrent transaction needs something that would have been discarded.
    Again,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

/// Packs, as often as it takes.
pub(crate) fn pack_with(writer: &Arc<Writer>, to: Tid, how: Packing, watch: &mut dyn PackWatch) -> Result<Packed> {
    let database = &writer.database;
    database.writable()?;
    let _packing = writer.packing.try_lock().ok_or_else(|| Error::Packing { name: database.name() })?;
    let mut attempt = 0;
    loop {
        let packed = if attempt < ATTEMPTS_BESIDE_COMMITS {
            pack(writer, to, how, watch, None)
        } else {
            // Before the turn, as in every attempt.
            let saving = database.saving();
            hold(writer, to, || pack(writer, to, how, watch, Some(&saving)))
        };
        match packed {
            Ok(packed) => return Ok(packed),
            Err(Stop::Error(error) | Stop::Fatal(error)) => return Err(error),
            Err(Stop::Again) => attempt += 1,
        }
        tracing::info!("{}: a concurrent transaction needs more than was kept", database.path.display());
    }
}

/// The objects that a pack to now with collection would keep.
pub(crate) fn needed(database: &Database, progress: &mut dyn FnMut(u64, u64)) -> Result<Survivors> {
    struct Told<'a>(&'a mut dyn FnMut(u64, u64));
    impl PackWatch for Told<'_> {
        fn progress(&mut self, _step: PackStep, done: u64, of: u64) {
            (self.0)(done, of);
        }
    }
    let now = database.now_full();
    let moment =
        Moment::new(&now, Tid::MAX, now.horizon.get(), Vec::new())?.expect("nothing is later than the end of time");
    let how = Packing::new().collect(true).go_on(true);
    survivors(database, &moment, how, &mut Told(progress))
}

/// Finds out what a pack would do.
pub(crate) fn rehearse(writer: &Writer, to: Tid, how: Packing, watch: &mut dyn PackWatch) -> Result<Packed> {
    let now = writer.database.now_full();
    let pledges = writer.pledges.all();
    let Some(moment) = Moment::new(&now, to, now.horizon.get(), pledges)? else {
        return Ok(Packed::unchanged(&now));
    };
    watch.begins();
    let survivors = survivors(&writer.database, &moment, how, watch)?;
    let mut copy = Copy::new(&moment, &survivors, how.collect, Sink::nowhere(START));
    copy.earlier(watch)?;
    if let Some(unchanged) = copy.unchanged().filter(|_| how.skip_if_all_stays) {
        return Ok(unchanged);
    }
    match copy.later(moment.end, true, watch) {
        Ok(()) => {}
        Err(Stop::Error(error) | Stop::Fatal(error)) => return Err(error),
        Err(Stop::Again) => unreachable!("the moment has seen that there is nothing packed after its time"),
    }
    let (before, after) = copy.extents();
    Ok(Packed { dangling: survivors.dangling().to_vec(), before, after, old: None })
}

/// Does something while no transaction is committed and none is judged; and tells the listeners, if it has packed to
/// `to`.
fn hold<T>(writer: &Writer, to: Tid, work: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    let database = &writer.database;
    writer.committer.alone(database, || {
        let before = database.now().number;
        let judging = writer.judging.write();
        let done = work();
        drop(judging);
        let now = database.now();
        if now.number != before {
            let to = to.min(now.horizon.get().1);
            database.listeners.tell(|| Event::Packed { to });
        }
        match done {
            Err(Stop::Fatal(error)) => Err((error, true)),
            done => Ok(done),
        }
    })?
}

fn survivors(database: &Database, moment: &Moment<'_>, how: Packing, watch: &mut dyn PackWatch) -> Result<Survivors> {
    let objects = moment.now.index.len();
    let watch = RefCell::new(watch);
    let progress = |read: u64| watch.borrow_mut().progress(PackStep::Collect, read.min(objects), objects);
    // A few rounds more, for a few bytes less an object.
    let places_max = (objects / 4).clamp(1 << 14, 1 << 20) as usize;
    let collecting = Collecting::new()
        .collect(how.collect)
        .go_on(how.go_on)
        .stop_at_foreign(how.stop_at_foreign)
        .threads(how.threads(database.options.threads) as usize)
        .places_max(places_max)
        .progress(&progress);
    collect(moment, collecting)
}

/// One attempt. `saving`: held if commits are held back already.
fn pack(
    writer: &Arc<Writer>,
    to: Tid,
    how: Packing,
    watch: &mut dyn PackWatch,
    saving: Option<&MutexGuard<'_, ()>>,
) -> Result<Packed, Stop> {
    let (database, held) = (&writer.database, saving.is_some());
    let now = database.now_full();
    // While no thread commits, no transaction is half-way: each is before the horizon, or among the pledges.
    let there = || (now.horizon.get(), writer.pledges.all());
    let (there, pledges) = if held { there() } else { writer.committer.alone(database, || Ok(there()))? };
    let Some(moment) = Moment::new(&now, to, there, pledges)? else { return Ok(Packed::unchanged(&now)) };
    watch.begins();
    let survivors = survivors(database, &moment, how, watch)?;
    let dangling = survivors.dangling().to_vec();
    if moment.boundary == START {
        return Ok(Packed { dangling, ..Packed::unchanged(&now) });
    }
    let half_made = HalfMade::new(&*database.options.disk, &database.path)?;
    // Done now, so that a failure is known at once.
    let old = if how.keep_old { Some(half_made.keep_old()?) } else { None };
    let committing: Committing = {
        let (now, began, writer) = (Arc::clone(&now), moment.end, Arc::clone(writer));
        Arc::new(move || !held && (now.horizon.end() > began || writer.committer.is_busy()))
    };
    let threads = how.threads(database.options.threads);
    let sink = Sink::new(half_made.file(), &database.path, &moment.magic()?, threads, committing);
    let mut copy = Copy::new(&moment, &survivors, how.collect, sink);
    copy.earlier(watch)?;
    if let Some(unchanged) = copy.unchanged().filter(|_| how.skip_if_all_stays) {
        return Ok(unchanged);
    }
    copy.later(moment.end, true, watch)?;
    for _ in 0..CATCH_UPS_MAX {
        let end = now.horizon.end();
        if end - copy.position() <= HELD_BYTES_MAX {
            break;
        }
        copy.later(end, false, watch)?;
    }
    copy.pledges(&writer.pledges.all())?;
    copy.sync()?;
    let mut forgotten = match &database.blobs {
        Some(files) => Forgotten::list(files, &moment, &survivors, how.keep_old)?,
        None => None,
    };
    watch.ready()?;
    let replace = || replace(writer, &now, copy, &half_made, old, watch);
    let replaced = match saving {
        Some(saving) => put_in_place(writer, saving, replace),
        None => put_in_place(writer, &database.saving(), || hold(writer, to, replace)),
    };
    let is_fatal = matches!(replaced, Err(Stop::Fatal(_))) || writer.committer.usable(database).is_err();
    if let (true, Some(forgotten)) = (is_fatal, forgotten.as_mut()) {
        forgotten.leave();
    }
    let (packed, old) = replaced?;
    // First the blobs: without them, no later opening would know of the rest.
    let removed = forgotten.map_or(Ok(()), |forgotten| forgotten.remove(how.keep_old));
    let (old, older) = old.map(Old::name).transpose()?.unzip();
    removed?;
    if database.options.threads > 1 {
        // With one thread, the system frees the room.
        now.mark_replaced();
        older.flatten().map(Room::of).iter().for_each(Room::mark_replaced);
    }
    Ok(Packed { dangling, old, ..packed })
}

/// Replaces the file, and the `.index` with it.
fn put_in_place<T>(
    writer: &Writer,
    saving: &MutexGuard<'_, ()>,
    replace: impl FnOnce() -> Result<T, Stop>,
) -> Result<T, Stop> {
    let database = &writer.database;
    let replaced = switch::remove_index(database).map_err(Stop::Error).and_then(|()| replace());
    if matches!(replaced, Err(Stop::Fatal(_))) || writer.committer.usable(database).is_err() {
        // Which file a crash leaves is not known: none is to find an index beside it.
        database.index_is_settled();
    } else if let Err(error) = database.save_index_alone(saving) {
        // Of the file that is there now, whichever that is.
        tracing::warn!("{error}");
    }
    replaced
}

/// Copies the rest, and makes the new file the database. The caller holds back commits.
fn replace<'a>(
    writer: &Writer,
    now: &Generation,
    mut copy: Copy<'_>,
    half_made: &HalfMade<'a>,
    mut old: Option<Old<'a>>,
    watch: &mut dyn PackWatch,
) -> Result<(Packed, Option<Old<'a>>), Stop> {
    let (synced, (end, last)) = (copy.position(), now.horizon.get());
    copy.later(end, false, watch)?;
    let pledges = writer.pledges.all();
    copy.pledges(&pledges)?;
    let moved = pledges.iter().map(|pledge| places(&copy, pledge)).collect::<Result<Vec<_>>>()?;
    if copy.position() != synced {
        copy.sync()?;
    }
    let (before, after) = copy.extents();
    let (index, versions, end) = copy.into_parts();
    let log = Log { path: now.log.path.clone(), file: Arc::clone(half_made.file()) };
    let next = Generation::new(now.number + 1, log, index, Horizon::new(end, last), versions);
    // The journal is of the old file, and must not be applied to the new one.
    writer.committer.journal.retire(now).map_err(|Broken { doing, source, fatal, .. }| {
        let error = Error::io(&now.log.path, doing, source);
        if fatal { Stop::Fatal(error) } else { Stop::Error(error) }
    })?;
    let renamed = half_made.rename();
    if let Ok(()) | Err(Stop::Fatal(_)) = renamed {
        // It may be the only name that the old file has.
        old.iter_mut().for_each(Old::is_needed);
    }
    renamed?;
    // It has the name, so it is the database, whatever comes.
    for (pledge, moved) in pledges.iter().zip(moved) {
        *pledge.records() = moved;
    }
    writer.database.replace(next);
    half_made.sync_directory().map_err(Stop::Fatal)?;
    Ok((Packed { dangling: Vec::new(), before, after, old: None }, old))
}

/// The records of a transaction between vote and finish, with the places of the new file.
fn places(copy: &Copy<'_>, pledge: &Pledge) -> Result<Vec<NewRecord>> {
    let moved = |record: &NewRecord| record.try_map(|position| copy.new_place(record.oid, position));
    pledge.records().iter().map(moved).collect()
}
