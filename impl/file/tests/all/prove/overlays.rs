//! FileStorage under what is built on storages: the past as a storage, and overlays, which keep the rules as it does.

use std::sync::Arc;

use crate::common::{BLOBS, CAN, PATH, SharedClock, options};
use vellum_disk::SimDisk;
use vellum_file::Options;
use vellum_harness::campaign::Campaign;
use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::expected;
use vellum_harness::generate;
use vellum_harness::hosted::{Hosted, Merger, Opening, answer};
use vellum_harness::question;
use vellum_harness::run::Play;
use vellum_harness::subject::{Can, Subject};
use vellum_spec::Database;
use vellum_storage::{AsOf, Overlay, Storage, Tid};

/// An overlay on an overlay on ... on a file, each with a file of its own: whenever it is opened again there is one more.
fn stack() -> Hosted {
    let mut parts: Option<(Arc<dyn Storage>, Arc<dyn Storage>)> = None;
    let mut openings = 0;
    let can = Can { read_only: false, pack: false, collect: false, dangling: false, ..CAN };
    Hosted::new("overlays on FileStorage", can, move |opening: Opening| {
        let clock = || Arc::clone(&opening.clock);
        let file = || -> vellum_storage::Result<Arc<dyn Storage>> {
            let disk = Arc::new(SimDisk::new(0));
            let options = Options::new().disk(disk).clock(clock()).resolver(Arc::new(Merger)).threads(1).blobs(BLOBS);
            let storage = options
                .create(PATH)
                .map_err(|e| vellum_storage::Error::io(PATH, "creating it", std::io::Error::other(e.to_string())))?;
            Ok(Arc::new(storage))
        };
        let over = |base, changes| Overlay::with(base, changes, Arc::new(clock()), Arc::new(Merger));
        openings = if opening.fresh { 0 } else { openings + 1 };
        let (base, changes) = match parts.take() {
            // The same two parts, put together again.
            Some(parts) if !opening.fresh && openings % 3 == 0 => parts,
            Some((base, changes)) if !opening.fresh => (Arc::new(over(base, changes)?) as Arc<dyn Storage>, file()?),
            _ => (file()?, file()?),
        };
        parts = Some((Arc::clone(&base), Arc::clone(&changes)));
        Ok(Box::new(over(base, changes)?))
    })
}

#[test]
fn overlays_on_files_keep_the_rules() {
    let make = || Ok(Box::new(stack()) as Box<dyn Subject>);
    let can = stack().can();
    let campaign =
        Campaign { seed: 5, first: 0, cases: 600, steps: 30, jobs: 1, keep_going: false, shrink_budget: 2000 };
    let report = campaign.run(&make, &|_| ()).unwrap();
    if let Some(found) = report.found.first() {
        panic!("case {}:\n{}", found.case, found.difference);
    }
    assert_eq!(report.coverage.missing(can), []);
}

/// Every moment of random histories: by the view that any storage has, and by opening the file as of then.
#[test]
fn every_moment_answers_as_it_did() {
    let (mut moments, mut asked) = (0, 0);
    for case in 0..60 {
        let disk = SimDisk::new(case);
        let under = disk.clone();
        let mut subject = Hosted::new("FileStorage", CAN, move |opening: Opening| {
            crate::common::open_under_harness(Options::new().disk(Arc::new(under.clone())), opening)
        });
        let world = {
            let mut play = Play::begin(&mut subject).unwrap();
            let mut dice = Seed::of(9, case);
            for _ in 0..30 {
                let step = generate::next(&mut dice, &play.world);
                play.step(&step, &mut Coverage::default()).unwrap_or_else(|found| panic!("{found}"));
            }
            play.world
        };
        drop(subject);
        let clock = SharedClock::new();
        let storage: Arc<dyn Storage> = Arc::new(options(&disk, &clock).blobs(BLOBS).read_only().open(PATH).unwrap());
        // What was packed, or copied as packed, hides what is before it.
        let since = world.database.packed_to();
        let tids = world.database.transactions.iter().map(|t| t.tid);
        for at in tids.filter(|tid| *tid >= since).flat_map(|tid| [tid, tid + 1]).chain([u64::MAX]) {
            let transactions = world.database.transactions.iter().filter(|t| t.tid <= at).cloned().collect();
            let then = Database { transactions };
            let view = AsOf::new(Arc::clone(&storage), Tid(at)).unwrap();
            let native = options(&disk, &clock).blobs(BLOBS).as_of(Tid(at)).open(PATH).unwrap();
            let known = &world.known;
            for question in question::all(CAN, &known.oids, &known.versions, &known.tids) {
                let right = expected::answer(&then, &question);
                assert_eq!(answer(&view, &question), right, "case {case} as of {at}: {question}");
                assert_eq!(answer(&native, &question), right, "case {case}, opened as of {at}: {question}");
                asked += 1;
            }
            moments += 1;
        }
    }
    println!("{moments} moments, {asked} questions");
    assert!(moments > 300, "{moments}");
}
