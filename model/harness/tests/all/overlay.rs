//! Two storages, one above the other, keep the rules as one does, wherever the seam is.

use crate::past;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vellum_harness::concurrent::{self, Plan, Report};
use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::node::Node;
use vellum_harness::question::{Answer, Question};
use vellum_harness::rules::Rules;
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::step::{Name, Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_storage::{
    AsOf, Error, Event, ManualClock, MemoryStorage, Oid, Order, Overlay, Status, Storage, Tid, TidRange,
    TransactionMeta, TransactionRecord, Version,
};

const CAN: Can = Can { pack: false, collect: false, counts: false, dangling: false, untold: false, ..Can::EVERYTHING };

type Make = fn(&Opening) -> Arc<dyn Storage>;

fn rules(opening: &Opening) -> Arc<dyn Storage> {
    let clock = Arc::clone(&opening.clock);
    Arc::new(Rules::new(Default::default(), clock, Arc::new(Merger), Node::references))
}

fn memory(opening: &Opening) -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::with("memory", opening.clock.clone(), Arc::new(Merger)))
}

/// A storage of overlays which moves its seam: when it is opened again, there is another overlay over the former one;
/// and now and then between two transactions, too.
struct Stack {
    hosted: Hosted,
    under_way: BTreeSet<Name>,
    finished: u64,
}

impl Stack {
    fn new(changes: Make) -> Stack {
        let mut parts: Option<(Arc<dyn Storage>, Arc<dyn Storage>)> = None;
        let mut openings = 0;
        let hosted = Hosted::new("a stack of overlays", CAN, move |opening| {
            let over = |base, changes| {
                let clock = Arc::clone(&opening.clock);
                Overlay::with(base, changes, clock, Arc::new(Merger))
            };
            openings = if opening.fresh { 0 } else { openings + 1 };
            let (base, changes) = match parts.take() {
                // The same two parts, put together again.
                Some(parts) if !opening.fresh && openings % 3 == 0 => parts,
                Some((base, above)) if !opening.fresh => {
                    (Arc::new(over(base, above)?) as Arc<dyn Storage>, changes(&opening))
                }
                _ => (rules(&opening), changes(&opening)),
            };
            parts = Some((Arc::clone(&base), Arc::clone(&changes)));
            let storage = over(base, changes)?;
            match opening.read_only {
                true => Ok(Box::new(AsOf::new(Arc::new(storage), Tid::MAX)?)),
                false => Ok(Box::new(storage)),
            }
        });
        Stack { hosted, under_way: BTreeSet::new(), finished: 0 }
    }
}

impl Subject for Stack {
    fn name(&self) -> String {
        self.hosted.name()
    }

    fn can(&self) -> Can {
        CAN
    }

    fn reset(&mut self) -> Result<(), String> {
        self.under_way.clear();
        self.finished = 0;
        self.hosted.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let outcome = self.hosted.perform(step);
        match (step, &outcome) {
            (Step::Begin { transaction, .. }, Outcome::Done) => drop(self.under_way.insert(*transaction)),
            (Step::Reopen { .. }, _) => self.under_way.clear(),
            (Step::Finish { transaction }, _) | (Step::Abort { transaction }, _) => {
                self.under_way.remove(transaction);
            }
            (Step::Change { transaction, .. } | Step::Vote { transaction, .. }, Outcome::Refused { .. }) => {
                self.under_way.remove(transaction);
            }
            _ => {}
        }
        if let (Outcome::Finished { .. }, true) = (&outcome, self.under_way.is_empty()) {
            self.finished += 1;
            if self.finished.is_multiple_of(3) {
                let moved = self.hosted.perform(&Step::Reopen { read_only: false });
                assert_eq!(moved, Outcome::Done);
            }
        }
        outcome
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        self.hosted.ask(questions)
    }
}

fn hold(changes: Make, cases: u64) {
    let (mut stack, mut coverage) = (Stack::new(changes), Coverage::default());
    for case in 0..cases {
        if let Err(found) = run::case(&mut stack, 1, case, 30, &mut coverage) {
            panic!("case {case}, shrunk:\n{}", shrink(&mut stack, found, 2000));
        }
    }
    println!("{} histories, {} steps, {} answers", coverage.histories, coverage.steps, coverage.answers);
    println!("{}", coverage.table(CAN));
    assert_eq!(coverage.missing(CAN), []);
}

#[test]
fn a_stack_of_overlays_keeps_the_rules() {
    hold(rules, 3000);
}

#[test]
fn a_stack_over_memory_keeps_the_rules() {
    hold(memory, 3000);
}

/// Case 3993 of the stack: an overlay has to know whether a tombstone shares an earlier one.
#[test]
fn an_undo_of_what_is_nothing_by_sharing_crosses_the_seam() {
    hold_script(
        "store b 0 @0: 0\ncommit b @1\nundo a @1\ncommit a @1\nundo a @1+1\ncommit a @9\nundo c @9\ncommit c @11\nreopen\nundo a @1+1\ncommit a @12",
    );
}

fn hold_script(script: &str) {
    let steps = vellum_harness::script::parse(script).unwrap();
    run::play(&mut Stack::new(rules), &steps, &mut Coverage::default()).unwrap_or_else(|found| panic!("{found}"));
}

fn demo() -> (Arc<Rules>, MemoryStorage, Overlay) {
    let (base, changes) = (Arc::new(past::empty()), MemoryStorage::new("changes"));
    for (oid, data) in [(0, "root"), (1, "one"), (1, "two")] {
        store(&*base, oid, data);
    }
    let overlay = Overlay::new(base.clone(), Arc::new(changes.clone())).unwrap();
    (base, changes, overlay)
}

fn store(storage: &dyn Storage, oid: u64, data: &'static str) -> Tid {
    let serial = storage.load(Oid(oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.store(Oid(oid), serial, data.into()).unwrap();
    storage.vote(change).unwrap().finish().unwrap()
}

fn undo(storage: &dyn Storage, tid: Tid) -> Tid {
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    change.undo(tid).unwrap();
    storage.vote(change).unwrap().finish().unwrap()
}

fn all(storage: &dyn Storage) -> Vec<TransactionRecord> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_transaction_of_the_base_is_undone_above_and_the_base_stays() {
    let (base, changes, overlay) = demo();
    let before = all(&*base);
    let tids: Vec<Tid> = before.iter().map(|t| t.tid).collect();
    undo(&overlay, tids[2]);
    assert_eq!(overlay.load(Oid(1), &Version::TRUNK).unwrap().data, "one");
    let written = all(&overlay);
    assert_eq!(written[3].revisions.len(), 1, "nobody sees the seam's own object");
    assert_eq!(written[3].revisions[0].source, Some(tids[1]), "it shares the base's data");
    assert_eq!(overlay.history(Oid(1), 1).unwrap()[0].size, 0);
    assert_eq!(all(&*base), before, "the base is as it was");
    // In the changes alone there is a copy, and the seam's object.
    assert_eq!(all(&changes)[0].revisions.len(), 2);
    assert_eq!(all(&changes)[0].revisions[0].source, None);
    // Put together again, they say the same.
    let again = Overlay::new(base, Arc::new(changes)).unwrap();
    assert_eq!(all(&again), written);
    assert_eq!((again.object_count(), again.last_transaction()), (2, overlay.last_transaction()));
}

/// Rule 4.5, where the past of the packed revision is on the other side of the seam.
#[test]
fn a_packed_revision_above_has_no_past_in_the_base() {
    let (base, _, overlay) = demo();
    let serial = base.load(Oid(1), &Version::TRUNK).unwrap().tid;
    let mut meta = TransactionMeta::new();
    meta.status = Status::Packed;
    let mut change = overlay.begin(meta).unwrap();
    change.store(Oid(1), serial, "packed".into()).unwrap();
    let tid = overlay.vote(change).unwrap().finish().unwrap();
    assert_eq!(overlay.history(Oid(1), 9).unwrap().len(), 1);
    assert!(matches!(overlay.load_serial(Oid(1), serial), Err(Error::KeyError { .. })));
    assert_eq!(overlay.load_before(Oid(1), tid).unwrap(), None);
    assert_eq!(overlay.history(Oid(0), 9).unwrap().len(), 1, "of others the past is there");
    assert!(overlay.undo_log().unwrap().undo_log(0, 9).unwrap().is_empty());
}

#[test]
fn a_listener_that_panics_leaves_the_overlay_in_order() {
    let (_, changes, overlay) = demo();
    let panics = Arc::new(|_: &Event| panic!("not now"));
    let listening = (overlay.listen(panics.clone()), changes.listen(panics));
    let mut change = overlay.begin(TransactionMeta::new()).unwrap();
    change.store(Oid(5), Tid::ZERO, "five".into()).unwrap();
    let voted = overlay.vote(change).unwrap();
    let told = catch_unwind(AssertUnwindSafe(|| voted.finish()));
    assert!(told.is_err());
    assert_eq!(overlay.load(Oid(5), &Version::TRUNK).unwrap().data, "five");
    assert_eq!((overlay.last_transaction(), all(&overlay).len()), (changes.last_transaction(), 4));
    drop(listening);
    store(&overlay, 5, "five again");
    assert_eq!(overlay.load(Oid(5), &Version::TRUNK).unwrap().data, "five again");
}

#[test]
fn new_oids_are_in_neither_storage_and_given_once() {
    let (_, _, overlay) = demo();
    let (one, other) = (overlay.new_oids(3).unwrap(), overlay.new_oids(100).unwrap());
    let all: BTreeSet<Oid> = one.iter().chain(&other).copied().collect();
    assert_eq!(all.len(), 103);
    assert!(all.iter().all(|oid| oid.0 > 1));
    assert!(one.windows(2).all(|two| two[0].0 + 1 == two[1].0));
}

#[test]
fn what_can_not_be_the_changes_is_refused() {
    let (base, changes, overlay) = demo();
    store(&overlay, 1, "three");
    let refused = |base: Arc<dyn Storage>, changes: Arc<dyn Storage>| match Overlay::new(base, changes) {
        Err(error @ Error::Unfit { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    // Changes over a base that was written to.
    let later = TransactionMeta::new().tid(overlay.last_transaction().next());
    base.commit(base.begin(later).unwrap()).unwrap();
    assert!(refused(base.clone(), Arc::new(changes)).contains("goes on to"));
    // A read-only storage refuses every write.
    let view = Arc::new(AsOf::new(base.clone(), Tid::MAX).unwrap());
    assert!(matches!(Overlay::new(base, view), Err(Error::ReadOnly { .. })));
}

#[test]
fn an_overlay_goes_on_from_the_past() {
    let (base, _, _) = demo();
    let tids: Vec<Tid> = all(&*base).iter().map(|t| t.tid).collect();
    let then = AsOf::new(base, tids[1]).unwrap();
    let overlay = Overlay::new(Arc::new(then), Arc::new(MemoryStorage::new("changes"))).unwrap();
    assert_eq!(overlay.load(Oid(1), &Version::TRUNK).unwrap().data, "one");
    store(&overlay, 1, "another way");
    assert_eq!(overlay.history(Oid(1), 9).unwrap().len(), 2);
}

#[test]
fn what_an_overlay_tells_many_threads_has_an_explanation() {
    let can = Can { restore: false, versions: false, reopen: false, read_only: false, edges: false, ..CAN };
    let mut total = Report::default();
    for seed in 0..20 {
        let clock = || Arc::new(ManualClock::at("2026-01-01T00:01:00Z".parse().unwrap()));
        let part = |name| Arc::new(MemoryStorage::with(name, clock(), Arc::new(Merger)));
        let base = Overlay::with(part("base"), part("middle"), clock(), Arc::new(Merger)).unwrap();
        let overlay = Overlay::with(Arc::new(base), part("top"), clock(), Arc::new(Merger)).unwrap();
        let plan = Plan { seed, threads: 4, transactions: 40, objects: 4, packs: 0 };
        total.add(&concurrent::run(&overlay, can, &plan).unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{total}");
    assert_eq!(total.never(can), [""; 0], "{total}");
}
