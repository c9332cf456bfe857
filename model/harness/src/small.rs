//! Every history of a small world, and not some at random.
//!
//! Most bugs of a storage need two objects and a few operations. So within a [`Bound`] all histories are played: in
//! each state of the specification each move that the bound allows is done, and every answer is compared.
//!
//! ```text
//!   state ──┬── store 1 ──▶ state       A state is a World, and how much of the bound is used. Equal states
//!           ├── vote a ───▶ state       are merged, and those that differ only in the names of objects or
//!           ├── pack @1 ──▶ state ...   transactions. Each arrow is a test: the shortest way to its beginning
//!           └── reopen ───▶ state       is played, and the move.
//! ```
//!
//! The search is by layers, so the first difference is one of the shortest. A layer is divided between threads, and put
//! together in its order: the same bound gives the same tests in the same order, however many threads there are.
//!
//! Where the rules leave a choice, the search follows the storage. A merged state is reached by one way only. So what a
//! storage keeps besides the state of the rules (an index, a cache) is tried as far as the bound counts it: reopenings,
//! packs and aborts are counted, and a state with another count is another state.
//!
//! | file | idea |
//! |---|---|
//! | `moves.rs` | the moves that a bound allows in a state |
//! | `rename.rs` | states and moves under other names |
//! | `crashes.rs` | the power cut in every operation of the disk of every move |

mod crashes;
mod moves;
mod rename;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vellum_sync::Mutex;

use crate::blind::Blind;
use crate::coverage::Coverage;
use crate::crash::{self, Tried};
use crate::expected;
use crate::generate;
use crate::question;
use crate::run::Difference;
use crate::step::{Outcome, Step};
use crate::subject::Subject;
use crate::world::World;

pub use moves::{Bound, CUT_WORLDS, Small, Spent, WORLDS};

/// Makes a storage to try; each thread has its own.
pub type Make<'a> = dyn Fn() -> Result<Box<dyn Subject>, String> + Sync + 'a;

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    /// The histories.
    pub bound: Bound,
    /// The number of threads.
    pub jobs: usize,
}

/// The results.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// States, merged.
    pub states: u64,
    /// Histories played: one for each move in each state.
    pub tests: u64,
    /// Steps of the longest one.
    pub steps_max: usize,
    /// Databases after a crash that were looked at.
    pub crashes: crash::Report,
    /// The corners of the rules that they reached.
    pub coverage: Coverage,
    /// The pairs of argument and state that they had.
    pub blind: Blind,
    /// How long it took.
    pub elapsed: Duration,
    /// The first difference, and the number of its test.
    pub found: Option<(u64, Difference)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, tests, steps_max, elapsed, .. } = self;
        write!(f, "{states} states, {tests} tests of at most {steps_max} steps, {:.1} s", elapsed.as_secs_f64())?;
        match self.crashes.crashes {
            0 => Ok(()),
            crashes => write!(f, ", {} cuts, {crashes} crashes", self.crashes.cuts),
        }
    }
}

/// A state, and the way to it.
struct State {
    world: World,
    spent: Spent,
    /// The number of its last step among all steps.
    at: usize,
}

/// A step that was done first, its outcomes, and the number of the step before it.
struct Reached {
    step: Step,
    outcomes: Vec<Outcome>,
    before: usize,
}

/// A test's result: the state after it.
struct Tested {
    step: Step,
    outcomes: Vec<Outcome>,
    key: u64,
    /// None if the state was known before.
    after: Option<(World, Spent)>,
}

/// So many states are divided between the threads at a time.
const BLOCK: usize = 256;

impl Search {
    /// Plays every history, until the first difference; `progress` is told the numbers of states and tests. With
    /// `crash`, the power is cut in every move, too: it opens the same storage as `make`.
    pub fn run(
        &self,
        make: &Make<'_>,
        crash: Option<&Tried>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, String> {
        let started = Instant::now();
        let can = make()?.can();
        let mut report = Report::default();
        let first = State { world: World::new(can), spent: Spent::default(), at: 0 };
        let mut seen = HashSet::from([rename::key(&self.bound, &first.world, first.spent)]);
        let mut reached: Vec<Reached> = Vec::new();
        let mut layer = vec![first];
        report.states = 1;
        while !layer.is_empty() && report.found.is_none() {
            let (mut next, before) = (Vec::new(), report.tests);
            for block in layer.chunks(BLOCK) {
                let tried = self.block(make, crash, block, &reached, &seen)?;
                report.coverage.add(&tried.coverage);
                report.blind.add(&tried.blind);
                report.crashes.add(&tried.crashes);
                for (state, tests) in block.iter().zip(tried.tests) {
                    for test in tests {
                        report.tests += 1;
                        let test = match test {
                            Ok(test) => test,
                            Err(difference) => {
                                report.found.get_or_insert((report.tests - 1, difference));
                                continue;
                            }
                        };
                        if let (true, Some((world, spent))) = (seen.insert(test.key), test.after) {
                            reached.push(Reached { step: test.step, outcomes: test.outcomes, before: state.at });
                            next.push(State { world, spent, at: reached.len() });
                            report.states += 1;
                        }
                    }
                }
                progress(report.states, report.tests);
                if report.found.is_some() {
                    break;
                }
            }
            report.steps_max += usize::from(report.tests > before);
            layer = next;
        }
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Tries every move in each of these states.
    fn block(
        &self,
        make: &Make<'_>,
        crash: Option<&Tried>,
        block: &[State],
        reached: &[Reached],
        seen: &HashSet<u64>,
    ) -> Result<Block, String> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> Result<(Coverage, Blind, crash::Report), String> {
            let mut subject = make()?;
            let (mut coverage, mut blind, mut crashes) = Default::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(state) = block.get(n) else { return Ok((coverage, blind, crashes)) };
                let way = way(reached, state.at);
                let mut tests = Vec::new();
                for step in moves::moves(&self.bound, &state.world, state.spent) {
                    let mut trial = Trial { bound: &self.bound, subject: &mut *subject, way: &way, state };
                    let tested = trial.play(&step, &mut coverage, &mut blind).and_then(|tested| {
                        crash.map_or(Ok(()), |tried| crashes::cut(tried, &way, &step, &mut crashes))?;
                        Ok(tested)
                    });
                    let known = |tested: &Tested| seen.contains(&tested.key);
                    tests.push(tested.map(|tested| match known(&tested) {
                        true => Tested { after: None, ..tested },
                        false => tested,
                    }));
                }
                done.lock().push((n, tests));
            }
        };
        let results: Vec<Result<_, String>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|_| Err("the harness panicked; see above".to_owned()))
            };
            workers.into_iter().map(join).collect()
        });
        let mut total = Block::default();
        for result in results {
            let (coverage, blind, crashes) = result?;
            total.coverage.add(&coverage);
            total.blind.add(&blind);
            total.crashes.add(&crashes);
        }
        let mut done = done.into_inner();
        done.sort_by_key(|(n, _)| *n);
        total.tests = done.into_iter().map(|(_, tests)| tests).collect();
        Ok(total)
    }
}

/// The tests of a block, state by state.
#[derive(Default)]
struct Block {
    tests: Vec<Vec<Result<Tested, Difference>>>,
    coverage: Coverage,
    blind: Blind,
    crashes: crash::Report,
}

/// The steps up to one of them, with their outcomes. Steps are counted from 1.
fn way(reached: &[Reached], mut at: usize) -> Vec<&Reached> {
    let mut way = Vec::new();
    while let Some(step) = at.checked_sub(1).and_then(|n| reached.get(n)) {
        way.push(step);
        at = step.before;
    }
    way.reverse();
    way
}

/// One test.
struct Trial<'a> {
    bound: &'a Bound,
    subject: &'a mut dyn Subject,
    way: &'a [&'a Reached],
    state: &'a State,
}

impl Trial<'_> {
    fn play(&mut self, step: &Step, coverage: &mut Coverage, blind: &mut Blind) -> Result<Tested, Difference> {
        coverage.histories += 1;
        self.go()?;
        let (mut world, mut outcomes) = (self.state.world.clone(), Vec::new());
        for part in generate::parts(&world, step) {
            let Some(right) = world.expect(&part) else { break };
            blind.step(&world, &part);
            let outcome = self.subject.perform(&part);
            if !right.contains(&outcome) {
                let right: Vec<_> = right.iter().map(Outcome::to_string).collect();
                return Err(self.difference(Some(step), part, right.join(", or "), outcome));
            }
            let before = world.clone();
            world.follow(&part, &outcome);
            coverage.step(&before, &part, &outcome, &world);
            let stop = matches!(outcome, Outcome::Refused { .. } | Outcome::Busy);
            outcomes.push(outcome);
            if stop {
                break;
            }
        }
        self.compare(step, &world, coverage)?;
        let spent = self.state.spent.and(step, &self.state.world);
        let key = rename::key(self.bound, &world, spent);
        Ok(Tested { step: step.clone(), outcomes, key, after: Some((world, spent)) })
    }

    /// Goes the way to the state. All answers on it were compared before; here it must only be the same way again.
    fn go(&mut self) -> Result<(), Difference> {
        let reset = self.subject.reset();
        reset.map_err(|e| self.difference(None, "an empty database", "it is there", e))?;
        let mut world = World::new(self.subject.can());
        for reached in self.way {
            let parts = generate::parts(&world, &reached.step);
            for (part, right) in parts.iter().zip(&reached.outcomes) {
                let outcome = self.subject.perform(part);
                if outcome != *right {
                    return Err(self.difference(None, part, format!("{right}, as before"), outcome));
                }
                world.follow(part, right);
            }
        }
        Ok(())
    }

    fn compare(&mut self, step: &Step, world: &World, coverage: &mut Coverage) -> Result<(), Difference> {
        let known = &world.known;
        let questions = question::all(world.can(), &known.oids, &known.versions, &known.tids);
        let answers: Vec<_> = questions.iter().map(|q| expected::answer(&world.database, q)).collect();
        let said = self.subject.ask(&questions);
        for (n, question) in questions.iter().enumerate() {
            if said.get(n) != Some(&answers[n]) {
                let said = said.get(n).map_or("nothing".to_owned(), ToString::to_string);
                return Err(self.difference(Some(step), question, &answers[n], said));
            }
        }
        coverage.answers(world, &questions, &answers);
        Ok(())
    }

    fn difference(
        &self,
        step: Option<&Step>,
        at: impl fmt::Display,
        rules: impl fmt::Display,
        storage: impl fmt::Display,
    ) -> Difference {
        Difference {
            name: self.subject.name(),
            steps: self.way.iter().map(|reached| &reached.step).chain(step).cloned().collect(),
            at: at.to_string(),
            rules: rules.to_string(),
            storage: storage.to_string(),
        }
    }
}
