//! The wrapper round stateright is tested itself: it never calls a run a proof that did not see all states.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stateright::Model;
use vellum_explore::graph::{self, Failure};
use vellum_explore::{Lie, Outcome, SITUATIONS, World, explore};

fn small() -> World {
    World::new(SITUATIONS.iter().find(|situation| situation.name == "away-too-long").unwrap().clone())
}

#[test]
fn a_panic_in_the_model_is_no_proof() {
    for threads in [1, 2] {
        let world = small().panicking_at(20_000);
        assert!(catch_unwind(AssertUnwindSafe(|| explore(&world, threads))).is_err());
    }
}

#[test]
fn a_run_that_was_cut_short_is_no_proof() {
    for threads in [1, 2] {
        let run = explore(&small().at_most(20_000), threads);
        assert!(matches!(run.outcome, Outcome::Cut { states } if states > 1_000), "{:?}", run.outcome);
    }
}

#[test]
fn a_fault_in_the_deepest_state_is_found() {
    for threads in [1, 2] {
        let run = explore(&small().with(Lie::BreaksAtTheEnd), threads);
        assert!(matches!(&run.outcome, Outcome::Broken(failure) if failure.path.len() > 15), "{:?}", run.outcome);
    }
}

#[test]
fn the_number_of_threads_changes_no_count() {
    let states = |threads| match explore(&small(), threads).outcome {
        Outcome::Holds { states, .. } => states,
        other => panic!("{other:?}"),
    };
    assert_eq!(states(1), states(2));
}

/// A graph with these edges, from state 0. The number of an action is where it leads.
struct Drawn(&'static [(u8, u8)]);

impl Model for Drawn {
    type State = u8;
    type Action = u8;

    fn init_states(&self) -> Vec<u8> {
        vec![0]
    }

    fn actions(&self, state: &u8, actions: &mut Vec<u8>) {
        actions.extend(self.0.iter().filter(|(from, _)| from == state).map(|(_, to)| *to));
    }

    fn next_state(&self, _: &u8, to: u8) -> Option<u8> {
        Some(to)
    }
}

/// State 9 is at rest, and the edges to state 7 have no progress.
fn look(edges: &'static [(u8, u8)]) -> Result<usize, Failure<u8>> {
    graph::look(&Drawn(edges), |state| *state == 9, |_| true, |to| to != 7 && to != 6)
}

#[test]
fn waiting_without_end_is_found() {
    assert_eq!(look(&[(0, 1), (1, 9), (0, 9)]), Ok(3));
    // A cycle that can be left, with progress.
    assert_eq!(look(&[(0, 1), (1, 0), (1, 9)]), Ok(3));
    // A cycle that cannot be left: nothing for stateright's `eventually`.
    let stuck = Failure { rule: graph::REST, path: vec![1, 2] };
    assert_eq!(look(&[(0, 1), (1, 2), (2, 3), (3, 2), (1, 9)]), Err(stuck));
    // A dead end.
    assert_eq!(look(&[(0, 1), (0, 9)]), Err(Failure { rule: graph::REST, path: vec![1] }));
    // A cycle that can be left, without progress.
    assert_eq!(look(&[(0, 7), (7, 6), (6, 7), (7, 9)]).unwrap_err().rule, graph::PROGRESS);
    // Two states that lead to each other, one of the two edges with progress.
    assert_eq!(look(&[(0, 7), (7, 1), (1, 7), (7, 9)]), Ok(4));
}

#[test]
fn a_shortest_path_is_shortest() {
    let drawn = Drawn(&[(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 4)]);
    assert_eq!(graph::shortest(&drawn, |state| *state == 4, 100), Some(vec![5, 4]));
    assert_eq!(graph::shortest(&drawn, |state| *state == 8, 100), None);
    assert_eq!(graph::shortest(&drawn, |state| *state == 4, 2), None);
}
