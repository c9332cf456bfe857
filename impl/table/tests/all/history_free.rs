//! A history-free database (rule 4.12): the same histories, crashes and threads, against the same rules.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, TableDefinition};
use vellum_disk::SimDisk;
use vellum_harness::campaign::Campaign;
use vellum_harness::concurrent;
use vellum_harness::coverage::Coverage;
use vellum_harness::crash::{Plan, Promise, Tried};
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::node::{Beside, Node};
use vellum_harness::subject::Subject;
use vellum_harness::tick::tick;
use vellum_spec::WITHOUT_CLOCK;
use vellum_storage::{
    Bytes, CopyOptions, Error, ManualClock, MemoryStorage, Oid, Order, Overlay, PackOptions, Refusal, Storage, Tid,
    TidRange, TransactionMeta, Version, copy,
};
use vellum_table::{Autopack, OpenError, Options, Step, TableStorage};

use crate::common::{BLOBS, PATH, can_forget, check_blobs, files, open_history_free};

const PAST: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("past");

/// As `histories::subject`, and what was made old so many seconds ago is forgotten.
pub fn subject(seconds: u64, step_rows: usize, spill_after: u64) -> Hosted {
    let mut disk = SimDisk::new(0);
    Hosted::new("a history-free TableStorage", can_forget(seconds), move |opening: Opening| {
        if opening.fresh {
            disk = SimDisk::new(0);
        }
        let options = Options::new().disk(Arc::new(disk.clone())).step_rows(step_rows).spill_after(spill_after);
        open_history_free(options, seconds, opening)
    })
}

/// The option of `vellum-prove` that names it.
pub fn storage_name(seconds: u64) -> &'static str {
    if seconds == 0 { "--storage history-free-at-once" } else { "--storage history-free" }
}

fn hold(seconds: u64, step_rows: usize, spill_after: u64, seed: u64, cases: u64) -> Coverage {
    let make = || Ok(Box::new(subject(seconds, step_rows, spill_after)) as Box<dyn Subject>);
    let campaign = Campaign { seed, first: 0, cases, steps: 40, jobs: 1, keep_going: false, shrink_budget: 3000 };
    let report = campaign.run(&make, &|_| ()).unwrap();
    if let Some(found) = report.found.first() {
        let command = found.difference.command(storage_name(seconds));
        panic!("case {}, made short; to play it again:\n\n{command}", found.case);
    }
    println!("{:.0} histories a minute", report.rate);
    report.coverage
}

fn assert_complete(coverage: &Coverage, seconds: u64) {
    println!("{}", coverage.table(can_forget(seconds)));
    assert_eq!(coverage.missing(can_forget(seconds)), []);
}

#[test]
fn each_commit_forgets_at_once() {
    assert_complete(&hold(0, 256, u64::MAX, 1, 600), 0);
}

/// The harness's clock goes in minutes.
#[test]
fn each_commit_forgets_what_was_old_two_minutes_before() {
    assert_complete(&hold(120, 256, u64::MAX, 2, 1000), 120);
}

#[test]
fn in_small_steps_and_with_records_that_wait_on_disk() {
    hold(120, 1, 1, 3, 200);
}

/// Rule 3.0.
#[test]
fn what_is_found_after_a_crash_is_what_the_rules_allow() {
    for seconds in [0, 120] {
        let opener = move |disk: &SimDisk, opening: Opening| {
            open_history_free(Options::new().disk(Arc::new(disk.clone())).step_rows(2), seconds, opening)
        };
        let (name, can) = ("a history-free TableStorage".into(), can_forget(seconds));
        let tried = Tried { name, can, promise: Promise::Whole, opener: Arc::new(opener) };
        let plan = Plan { seed: 1, first: 0, cases: 5, steps: 20, cuts_max: 40, go_on: 4 };
        let report = plan.run(&tried, &mut |_| ()).unwrap_or_else(|failure| {
            let (seed, case, steps) = (failure.seed, failure.case, plan.steps);
            panic!(
                "{failure}\nTo see it again:\n\ncargo run --release --bin vellum-prove -- --crashes {} --seed {seed} \
                 --first {case} --cases 1 --steps {steps}\n",
                storage_name(seconds)
            )
        });
        println!("{report}");
        assert_eq!(report.never(&tried), [""; 0], "{report}");
    }
}

/// Rule 3.0.
#[test]
fn what_many_threads_are_told_has_an_explanation() {
    let mut total = concurrent::Report::default();
    for seed in 0..12 {
        let storage = history_free(seed, 0).blobs(BLOBS).create(PATH).unwrap();
        let plan = concurrent::Plan { seed, threads: 4, transactions: 40, objects: 4, packs: 0 };
        let report = concurrent::run(&storage, can_forget(0), &plan);
        check_blobs(&storage).unwrap();
        total.add(&report.unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{total}");
}

/// While a pack goes by its list, commits forget nothing; the ones after it do.
#[test]
fn commits_beside_packs_leave_tables_that_agree() {
    let storage = history_free(1, 0).step_rows(1).threads(1).create(PATH).unwrap();
    let mut serials = [Tid::ZERO; 8];
    let mut change = |object: u64| {
        let serial = &mut serials[object as usize];
        *serial = store(&storage, Oid(object), *serial, &[]);
    };
    (0..8).for_each(&mut change);
    std::thread::scope(|scope| {
        let packs = scope.spawn(|| {
            (0..30).for_each(|_| drop(storage.pack_to(Tid::MAX, PackOptions::default().go_on(true)).unwrap()));
        });
        let mut n = 0;
        while !packs.is_finished() || n < 100 {
            change(n % 8);
            n += 1;
        }
        packs.join().unwrap();
    });
    for _ in 0..100 {
        change(0);
    }
    assert_eq!(revisions(&storage), 8);
    assert_sound(&storage);
}

/// The next commits forget the transactions that are due, four each (rule 4.12).
#[test]
fn a_commit_forgets_a_part_of_what_is_due() {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
    let storage = history_free(0, 60).clock(clock.clone()).create(PATH).unwrap();
    let mut serial = Tid::ZERO;
    for _ in 0..20 {
        serial = store(&storage, Oid::ROOT, serial, &[]);
    }
    assert_eq!(revisions(&storage), 20);
    clock.set(tick(10).time().unwrap());
    let left = (0..8).map(|_| {
        serial = store(&storage, Oid::ROOT, serial, &[]);
        revisions(&storage)
    });
    // Of the revisions up to the time that it packs to, each commit keeps the newest one.
    assert_eq!(left.collect::<Vec<_>>(), [18, 15, 12, 9, 6, 7, 8, 9]);
    assert_sound(&storage);
}

/// The file does not grow with the number of commits: here its objects take 40 KB. A record whose class cannot be read
/// may have a blob, for all that is known; but without a folder there is none.
#[test]
fn the_file_stays_as_large_as_its_objects() {
    for folder in [false, true] {
        let options = history_free(0, 0);
        let storage = if folder { options.blobs(BLOBS) } else { options }.create(PATH).unwrap();
        let mut serials = [Tid::ZERO; 20];
        for n in 0..8000 {
            let (oid, record) = (n % 20, vec![b'x'; 2000].into());
            serials[oid] = write(&storage, Oid(oid as u64), serials[oid], record).unwrap();
        }
        let rows: u64 = storage.summary().unwrap().iter().map(|table| table.rows).sum();
        assert!(rows <= 120, "{rows} rows, with a folder: {folder}");
        assert!(storage.size() <= 400_000, "{} bytes, with a folder: {folder}", storage.size());
        assert_eq!(revisions(&storage), 20);
        assert_sound(&storage);
    }
}

/// A reader with an older moment gets the revision of that moment, or none: never a newer one.
#[test]
fn a_reader_gets_the_right_revision_or_none() {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
    let storage = history_free(0, 60).clock(clock.clone()).create(PATH).unwrap();
    let first = store(&storage, Oid::ROOT, Tid::ZERO, &[1]);
    clock.set((tick(1).time().unwrap()) + Duration::from_secs(50));
    let second = store(&storage, Oid::ROOT, first, &[2]);
    let seen = || storage.load_before(Oid::ROOT, second).unwrap().map(|found| (found.tid, found.next));
    assert_eq!(seen(), Some((first, Some(second))));
    clock.set((tick(1).time().unwrap()) + Duration::from_secs(109));
    store(&storage, Oid(1), Tid::ZERO, &[]);
    assert_eq!(seen(), Some((first, Some(second))), "the second one is not a minute old");
    clock.set((tick(1).time().unwrap()) + Duration::from_secs(111));
    store(&storage, Oid(2), Tid::ZERO, &[]);
    assert_eq!(seen(), None);
    assert!(matches!(storage.load_serial(Oid::ROOT, first), Err(Error::KeyError { .. })));
}

/// The merge of two changes needs the revision that both began with.
#[test]
fn changes_are_merged_as_long_as_the_older_revision_is_kept() {
    let storage = history_free(0, 60).create(PATH).unwrap();
    let record = |number| Node { counter: true, number, ..Node::default() }.encode();
    let write = |serial, number| self::write(&storage, Oid::ROOT, serial, record(number));
    let first = write(Tid::ZERO, 1).unwrap();
    write(first, 3).unwrap();
    write(first, 5).unwrap();
    assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK).unwrap().data, record(7));
    let storage = history_free(0, 0).create(PATH).unwrap();
    let write = |serial, number| self::write(&storage, Oid::ROOT, serial, record(number));
    let first = write(Tid::ZERO, 1).unwrap();
    write(first, 3).unwrap();
    assert!(matches!(write(first, 5), Err(Error::Refused(Refusal::Conflict { .. }))));
}

#[test]
fn the_kind_is_chosen_when_the_database_is_made() {
    let disk = Arc::new(SimDisk::new(0));
    let options = || Options::new().disk(disk.clone());
    options().history_free(true).create("free").unwrap();
    let free = options().open("free").unwrap();
    assert!(free.is_history_free());
    assert!(!free.capabilities().undo);
    let tid = store(&free, Oid::ROOT, Tid::ZERO, &[]);
    let mut draft = free.begin(TransactionMeta::new()).unwrap();
    let refused = draft.undo(tid).unwrap_err().to_string();
    assert_eq!(
        refused,
        "free cannot be used for this: it is history-free: it forgets older revisions, so nothing can be undone"
    );
    assert_eq!(free.undoable(0, 10).unwrap(), []);
    options().create("keeping").unwrap();
    assert!(!options().open("keeping").unwrap().is_history_free());
    let refused = options().history_free(true).open("keeping");
    assert!(matches!(refused, Err(OpenError::KeepsHistory { .. })), "{refused:?}");
}

/// Old revisions go by themselves, and garbage by autopack.
#[test]
fn autopack_frees_garbage() {
    let storage = history_free(0, 0).create(PATH).unwrap();
    let root = store(&storage, Oid::ROOT, Tid::ZERO, &[1]);
    store(&storage, Oid(1), Tid::ZERO, &[]);
    store(&storage, Oid::ROOT, root, &[]);
    let mut autopack = Autopack::new(storage.clone(), Duration::from_secs(7 * 86400));
    let mut work = || (0..100).take_while(|_| autopack.step().unwrap() != Step::Idle).count();
    assert!(work() > 0);
    assert!(matches!(storage.load(Oid(1), &Version::TRUNK), Err(Error::KeyError { .. })));
    assert_eq!(work(), 0);
    store(&storage, Oid(2), Tid::ZERO, &[]);
    assert!(work() > 0);
    assert!(matches!(storage.load(Oid(2), &Version::TRUNK), Err(Error::KeyError { .. })));
    assert_sound(&storage);
}

/// Rule 8.4: what is copied in one step forgets blobs that came in the same step.
#[test]
fn a_copy_leaves_no_file_of_what_it_forgets() {
    let source = MemoryStorage::new("source");
    store_blob(&source, Oid(1), Tid::ZERO);
    let root = store(&source, Oid::ROOT, Tid::ZERO, &[1]);
    let last = store_blob(&source, Oid(1), source.load(Oid(1), &Version::TRUNK).unwrap().tid);
    store(&source, Oid::ROOT, root, &[1]);
    let storage = history_free(0, 0).blobs(BLOBS).create(PATH).unwrap();
    copy(&source, &storage, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
    assert_eq!(files(&storage), [(Oid(1), last)].into());
    check_blobs(&storage).unwrap();
    assert_eq!(rows(&storage, "unowned"), 0);
    assert_sound(&storage);
}

/// Changes above another storage must be there as long as the overlay: what it finds no more, it takes for unchanged.
#[test]
fn an_overlay_takes_no_changes_that_forget() {
    let above = |changes| Overlay::new(Arc::new(MemoryStorage::new("base")), Arc::new(changes));
    let refused = above(history_free(0, 60).create(PATH).unwrap()).unwrap_err().to_string();
    assert!(refused.contains("forgets older revisions"), "{refused}");
    let changes = Options::new().disk(Arc::new(SimDisk::new(0))).create(PATH).unwrap();
    above(changes).unwrap();
}

/// An old row that cannot be read is no reason to refuse what is new: with blobs or without, copied or not.
#[test]
fn damage_of_an_old_row_refuses_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let last = with_damage(folder.path(), [0, 50, 55], 0);
    for n in 1..5 {
        let (storage, _) = open_at(folder.path(), 600 * n);
        // The opening does not know of it yet.
        match n {
            1 => drop(store(&storage, Oid(1), Tid::ZERO, &[])),
            2 => drop(store_blob(&storage, Oid(2), Tid::ZERO)),
            _ => {
                let source = MemoryStorage::new("source");
                let tid = match n {
                    3 => store_blob(&source, Oid(n), Tid::ZERO),
                    _ => store(&source, Oid(n), Tid::ZERO, &[]),
                };
                let all = source.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap);
                storage.bulk().unwrap().copy_in(all.collect()).unwrap();
                assert_eq!(storage.load(Oid(n), &Version::TRUNK).unwrap().tid, tid);
            }
        }
        store(&storage, Oid(10 + n), Tid::ZERO, &[]);
        assert_eq!(storage.load(Oid::ROOT, &Version::TRUNK).unwrap().tid, last);
        assert_eq!(rows(&storage, "past"), 2, "nothing is forgotten by halves");
        assert_eq!(files(&storage).len(), [0, 1, 2, 2][n as usize - 1]);
    }
}

/// Later revisions are not read: forgetting a revision of an object that changes all the time would cost more and
/// more.
#[test]
fn a_commit_does_not_read_what_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    with_damage(folder.path(), [0, 50, 53, 55], 2);
    let (storage, _) = open_at(folder.path(), 111);
    assert_eq!(rows(&storage, "past"), 3);
    store(&storage, Oid(1), Tid::ZERO, &[]);
    assert_eq!(rows(&storage, "past"), 2, "the revision that was made old 61 seconds ago is gone");
}

/// Rule 4.12: where the clock is behind the tids, they do not tell how old a revision is; the number of later
/// transactions does.
#[test]
fn a_clock_that_is_behind_does_not_keep_everything() {
    let storage = history_free(0, 60).create(PATH).unwrap();
    let mut serial = Tid::ZERO;
    for n in 1..=WITHOUT_CLOCK + 20 {
        serial = store(&storage, Oid::ROOT, serial, &[]);
        if n > WITHOUT_CLOCK - 20 {
            assert_eq!(revisions(&storage) as u64, n.min(WITHOUT_CLOCK + 1));
        }
    }
    assert_sound(&storage);
}

fn history_free(seed: u64, seconds: u64) -> Options {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap()));
    let options = Options::new().disk(Arc::new(SimDisk::new(seed))).clock(clock).resolver(Arc::new(Merger));
    options.history_free(true).grace(Duration::from_secs(seconds))
}

/// A history-free database in a folder, with a grace of a minute, so many seconds after the first commit.
fn open_at(folder: &Path, seconds: u64) -> (TableStorage, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(tick(1).time().unwrap() + Duration::from_secs(seconds)));
    let options = Options::new().clock(clock.clone()).blobs(folder.join("blobs"));
    let options = options.history_free(true).grace(Duration::from_secs(60));
    (options.open_or_create(folder.join(PATH)).unwrap(), clock)
}

/// A root that was changed at these seconds. The row of one of its older revisions is damaged. The last
/// tid.
fn with_damage<const N: usize>(folder: &Path, seconds: [u64; N], damaged: usize) -> Tid {
    let (storage, clock) = open_at(folder, 0);
    let mut tids = vec![Tid::ZERO];
    for at in seconds {
        clock.set(tick(1).time().unwrap() + Duration::from_secs(at));
        tids.push(store(&storage, Oid::ROOT, tids[tids.len() - 1], &[]));
    }
    drop(storage);
    let file = Database::open(folder.join(PATH)).unwrap();
    let transaction = file.begin_write().unwrap();
    transaction.open_table(PAST).unwrap().insert((0, tids[damaged + 1].0), &b"?"[..]).unwrap();
    transaction.commit().unwrap();
    tids[N]
}

fn store_blob(storage: &dyn Storage, oid: Oid, serial: Tid) -> Tid {
    let mut writer = storage.blobs().unwrap().new_blob().unwrap();
    writer.append(b"some bytes").unwrap();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let record = Node { beside: Beside::Blob(1), ..Node::default() }.encode();
    draft.store_blob(oid, serial, record, writer.finish().unwrap()).unwrap();
    storage.commit(draft).unwrap()
}

fn rows(storage: &TableStorage, name: &str) -> u64 {
    storage.summary().unwrap().iter().find(|table| table.name == name).unwrap().rows
}

fn store(storage: &dyn Storage, oid: Oid, serial: Tid, to: &[u64]) -> Tid {
    let record = Node { strong: to.iter().copied().map(Oid).collect(), ..Node::default() }.encode();
    write(storage, oid, serial, record).unwrap()
}

fn write(storage: &dyn Storage, oid: Oid, serial: Tid, record: Bytes) -> vellum_storage::Result<Tid> {
    let mut draft = storage.begin(TransactionMeta::new())?;
    draft.store(oid, serial, record)?;
    storage.commit(draft)
}

fn revisions(storage: &TableStorage) -> usize {
    let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
    all.map(|transaction| transaction.unwrap().revisions.len()).sum()
}

fn assert_sound(storage: &TableStorage) {
    let mut problems = Vec::new();
    storage.check(&mut |problem| problems.push(problem.to_string())).unwrap();
    assert_eq!(problems, [""; 0]);
}
