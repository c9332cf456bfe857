//! FileStorage held to the rules: random histories, every answer compared with the specification's after every step.

use std::path::Path;
use std::sync::Arc;

use crate::common::{CAN, Dice, PATH, SharedClock, commit, format_problems, open_under_harness, options, record};
use proptest::prelude::*;
use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, Options};
use vellum_harness::campaign::Campaign;
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::generate::history;
use vellum_harness::hosted::{Hosted, Opening};
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::story;
use vellum_harness::subject::Subject;
use vellum_storage::Oid;

/// On a disk of its own for each history; every other opening finds no index. Before each the whole file is checked.
fn subject(durability: Durability, spill_after: u64) -> Hosted {
    let (mut disk, mut openings) = (SimDisk::new(0), 0);
    Hosted::new(format!("{durability:?}"), CAN, move |opening: Opening| {
        let options = |disk: &SimDisk| {
            Options::new()
                .disk(Arc::new(disk.clone()))
                .durability(durability)
                .spill_after(spill_after)
                .journal_bytes(36 << 10)
        };
        if openings > 0 {
            assert_eq!(format_problems(&options(&disk), PATH), []);
        }
        if opening.fresh {
            (disk, openings) = (SimDisk::new(0), 0);
        }
        openings += 1;
        if openings % 2 == 0 {
            let _ = disk.remove(Path::new("Data.fs.index"));
        }
        open_under_harness(options(&disk), opening)
    })
}

/// Its name in `vellum-prove`.
fn named(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "--storage file",
        Durability::Relaxed => "--storage file-relaxed",
        Durability::Journal => "--storage file-journal",
    }
}

fn hold(durability: Durability, spill_after: u64, seed: u64) {
    let make = || Ok(Box::new(subject(durability, spill_after)) as Box<dyn Subject>);
    let campaign = Campaign { seed, first: 0, cases: 1500, steps: 30, jobs: 1, keep_going: false, shrink_budget: 3000 };
    let report = campaign.run(&make, &|_| ()).unwrap();
    if let Some(found) = report.found.first() {
        let command = found.difference.command(named(durability));
        panic!("case {}, made short; to play it again:\n\n{command}", found.case);
    }
    println!("{}", report.coverage.table(CAN));
    println!("{:.0} histories a minute", report.rate);
    assert_eq!(report.coverage.missing(CAN), []);
}

#[test]
fn with_a_journal() {
    hold(Durability::Journal, 200, 3);
}

#[test]
fn with_full_durability() {
    hold(Durability::Full, u64::MAX, 1);
}

#[test]
fn with_one_sync_and_records_that_wait_on_disk() {
    hold(Durability::Relaxed, 1, 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    /// Longer than the others, and of a seed that is new each time.
    #[test]
    fn long_histories(seed in any::<u64>().no_shrink()) {
        let (steps, mut subject) = (history(&mut Seed(seed), CAN, 200), subject(Durability::Full, 200));
        if let Err(difference) = run::play(&mut subject, &steps, &mut Coverage::default()) {
            let command = shrink(&mut subject, difference, 3000).command(named(Durability::Full));
            return Err(TestCaseError::fail(format!("made short; to play it again:\n\n{command}\nIt came from this")));
        }
    }
}

/// The stories of the rules (`model/harness/scenarios`), as far as they can be told of it: every answer as it should
/// be.
#[test]
fn the_stories_that_it_can_tell() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../model/harness/scenarios");
    let told = story::tell_folder(&folder, named(Durability::Full), || subject(Durability::Full, u64::MAX));
    assert!(told >= 20, "{told}");
}

/// Given oids are new: none is given out twice while the storage is open, and none that any object had.
/// Rule 1.1.
#[test]
fn new_oids_are_new() {
    for seed in 0..30 {
        let (mut dice, disk, clock) = (Dice(seed), SimDisk::new(seed), SharedClock::new());
        let options = options(&disk, &clock);
        let mut storage = options.create(PATH).unwrap();
        let (mut used, mut given) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            match dice.roll(4) {
                0 => {
                    drop(storage);
                    storage = options.open(PATH).unwrap();
                    // Unused ones may be given out again.
                    given.clear();
                }
                1 => {
                    let oid = if dice.roll(2) == 0 { dice.roll(200) } else { given.pop().map_or(7, |oid: Oid| oid.0) };
                    commit(&storage, "somebody's", &[(oid, Some(record(b"x")))]).unwrap();
                    used.push(Oid(oid));
                }
                _ => {
                    for oid in storage.new_oids(1 + dice.roll(3) as u32).unwrap() {
                        assert!(!given.contains(&oid) && !used.contains(&oid), "seed {seed}: {oid}");
                        given.push(oid);
                    }
                }
            }
        }
    }
}
