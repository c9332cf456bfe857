//! Two storages, one above the other, keep the rules as one does, wherever the seam is.



use std::collections::BTreeSet;
use std::sync::Arc;

use vellum_harness::coverage::Coverage;
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::node::Node;
use vellum_harness::question::{Answer, Question};
use vellum_harness::rules::Rules;
use vellum_harness::run;
use vellum_harness::shrink::shrink;
use vellum_harness::step::{Name, Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_storage::{AsOf, Error, MemoryStorage, Oid, Order, Overlay, Storage, Tid, TidRange, TransactionMeta};

const CAN: Can = Can { pack: false, collect: false, dangling: false, ..Can::EVERYTHING };

type Make = fn(&Opening) -> Arc<dyn Storage>;

fn rules(opening: &Opening) -> Arc<dyn Storage> {
    let clock = Box::new(Arc::clone(&opening.clock));
    Arc::new(Rules::new(Default::default(), clock, Box::new(Merger), Node::references))
}

fn memory(opening: &Opening) -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::with("memory", Box::new(Arc::clone(&opening.clock)), Box::new(Merger)))
}

/// A storage of overlays which moves its seam: when it is opened again, there is another overlay over what was there
/// before; and now and then between two transactions, too.
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
                let clock = Box::new(Arc::clone(&opening.clock));
                Overlay::with(base, changes, clock, Box::new(Merger))
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
