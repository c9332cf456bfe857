//! The search through small worlds: its counts, its order, and that it finds the shortest history.

use vellum_harness::hosted::Hosted;
use vellum_harness::question::{Answer, Question};
use vellum_harness::run;
use vellum_harness::small::{Bound, Report, Search};
use vellum_harness::step::{Change, Outcome, Step};
use vellum_harness::subject::{Can, Subject};
use vellum_harness::{coverage::Coverage, script};

fn explore(bound: &str, jobs: usize, make: impl Fn() -> Box<dyn Subject> + Sync) -> Report {
    let bound: Bound = bound.parse().unwrap();
    assert_eq!(bound.to_string().parse(), Ok(bound));
    Search { bound, jobs }.run(&|| Ok(make()), None, &mut |_, _| ()).unwrap()
}

fn rules() -> Box<dyn Subject> {
    Box::new(Hosted::rules())
}

/// The counts are pinned: a change of the rules or of the moves shows here.
#[test]
fn a_bound_has_so_many_states_and_tests() {
    for (bound, states, tests) in [
        ("transactions=1", 18, 29),
        ("transactions=2 overlapping=2 aborts=1", 350, 1296),
        ("transactions=1 changes=2 versions reopens=1", 739, 1794),
        ("transactions=2 packs=1 reopens=1 root", 1808, 7318),
    ] {
        let report = explore(bound, 2, rules);
        assert!(report.found.is_none(), "{bound}");
        assert_eq!((report.states, report.tests), (states, tests), "{bound}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let counts = |jobs| {
        let report = explore("transactions=2 overlapping=2 versions", jobs, rules);
        (report.states, report.tests, report.steps_max, report.coverage.steps, report.coverage.answers)
    };
    assert_eq!(counts(1), counts(3));
}

#[test]
fn what_is_no_bound_is_refused() {
    for wrong in ["dances=1", "transactions", "transactions=x", "overlapping=3", "root=1"] {
        assert!(wrong.parse::<Bound>().is_err(), "{wrong}");
    }
}

/// The specification, apart from one fault: after an undo it shows the object as a key error.
struct Forgetful {
    rules: Hosted,
    undone: bool,
}

impl Subject for Forgetful {
    fn name(&self) -> String {
        "forgetful".to_owned()
    }

    fn can(&self) -> Can {
        self.rules.can()
    }

    fn reset(&mut self) -> Result<(), String> {
        self.undone = false;
        self.rules.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        let outcome = self.rules.perform(step);
        let undoes = matches!(step, Step::Change { change: Change::Undo { .. }, .. });
        self.undone |= undoes && outcome == Outcome::Done;
        outcome
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answers = self.rules.ask(questions);
        let forget = |(question, answer): (&Question, Answer)| match question {
            Question::Load { .. } if self.undone && matches!(answer, Answer::Loaded { .. }) => Answer::KeyError,
            _ => answer,
        };
        questions.iter().zip(answers).map(forget).collect()
    }
}

/// A draft that undoes shows the fault already: a store, its commit, and the undo.
#[test]
fn the_first_difference_is_one_of_the_shortest_and_can_be_played_again() {
    let make = || Forgetful { rules: Hosted::rules(), undone: false };
    let report = explore("transactions=2 overlapping=2 versions", 2, || Box::new(make()));
    let (_, difference) = report.found.unwrap();
    assert_eq!(difference.steps.len(), 4, "{difference}");
    let again = script::parse(&difference.to_string()).unwrap();
    let again = run::play(&mut make(), &again, &mut Coverage::default()).unwrap_err();
    assert_eq!((again.at, again.storage), (difference.at, difference.storage));
}
