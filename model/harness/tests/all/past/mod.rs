//! Databases with a past, made by playing random histories on the rules; and everything that can be asked of them.
use std::collections::BTreeSet;
use std::sync::Arc;

use vellum_harness::coverage::Coverage;
use vellum_harness::dice::Seed;
use vellum_harness::expected;
use vellum_harness::generate;
use vellum_harness::hosted::{self, Hosted, Merger};
use vellum_harness::node::Node;
use vellum_harness::question::{self, Question};
use vellum_harness::rules::Rules;
use vellum_harness::run::Play;
use vellum_harness::subject::Can;
use vellum_harness::world::{Known, World};
use vellum_spec::Database;
use vellum_storage::{ManualClock, Storage, Tid};
use vellum_sync::Mutex;

/// The rules as a storage, and as they say of themselves what they are.
pub struct Past {
    pub rules: Rules,
    pub world: World,
}

/// Plays a history of so many steps.
pub fn play(case: u64, can: Can, length: usize) -> Past {
    let opened: Arc<Mutex<Option<Rules>>> = Arc::default();
    let last = Arc::clone(&opened);
    let mut subject = Hosted::new("the rules", can, move |opening| {
        let (clock, merger) = (opening.clock, Arc::new(Merger));
        let mut last = last.lock();
        let rules = match last.take() {
            Some(rules) if !opening.fresh => rules.reopened(opening.read_only, clock, merger),
            _ => Rules::new(Database::default(), clock, merger, Node::references),
        };
        *last = Some(rules.clone());
        Ok(Box::new(rules))
    });
    let mut dice = Seed::of(7, case);
    let mut play = Play::begin(&mut subject).unwrap();
    for _ in 0..length {
        let step = generate::next(&mut dice, &play.world);
        play.step(&step, &mut Coverage::default()).unwrap_or_else(|found| panic!("{found}"));
    }
    let world = play.world;
    let rules = opened.lock().clone().unwrap();
    Past { rules, world }
}

/// A new and empty storage that keeps the rules.
pub fn empty() -> Rules {
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    Rules::new(Database::default(), Arc::new(clock), Arc::new(Merger), Node::references)
}

/// The same database as it was right after a transaction.
pub fn truncated(database: &Database, at: Tid) -> Database {
    let transactions = database.transactions.iter().filter(|t| t.tid <= at.0).cloned().collect();
    Database { transactions }
}

/// Asks the storage everything, and panics where it does not answer as this database does.
pub fn compare(storage: &dyn Storage, database: &Database, can: Can, known: &Known, what: &str) -> u64 {
    let questions: Vec<Question> = question::all(can, &known.oids, &known.versions, &known.tids);
    for question in &questions {
        let (right, said) = (expected::answer(database, question), hosted::answer(storage, question));
        assert_eq!(right, said, "{what}: {question}");
    }
    questions.len() as u64
}

/// All tids that a history has heard of.
pub fn tids(world: &World) -> BTreeSet<Tid> {
    world.database.transactions.iter().map(|t| Tid(t.tid)).collect()
}
