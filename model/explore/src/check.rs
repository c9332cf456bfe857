//! The one way to run an exploration, so that no run that was cut short passes for a proof.
//!
//! stateright is always run in the same way: depth first, to the end, without limits of its own. A run has one of three
//! outcomes. Only [`Outcome::Holds`] says that all states were seen.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::graph::{self, Failure};
use crate::{Action, Seen, World};

/// The result of a run.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All states were seen, and all rules hold.
    Holds {
        /// Different states.
        states: usize,
        /// Orders of events that must occur, and did not.
        unseen: Vec<Seen>,
    },
    /// A rule is broken.
    Broken(Failure<Action>),
    /// The run was cut short: nothing was found in these states, and that says nothing of the others.
    Cut {
        /// Different states.
        states: usize,
    },
}

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its result.
    pub outcome: Outcome,
    /// Steps that were taken, those included that led to known states.
    pub steps: u64,
    /// How long it took, without the search for the shortest path.
    pub time: Duration,
}

/// Explores a world to its end.
///
/// # Panics
///
/// The model panics, outside of the machines. A panic of a machine is a broken rule.
pub fn explore(world: &World, threads: usize) -> Run {
    let begins = Instant::now();
    let checker = world.clone().checker().threads(threads);
    // A run that has found a fault need not go on. A run that found none goes to the end.
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let states = checker.unique_state_count();
    let broken = checker.discoveries().into_iter().next().map(|(rule, path)| (rule, path.into_actions()));
    let (steps, time) = (world.steps(), begins.elapsed());
    let outcome = match broken {
        Some((rule, path)) => Outcome::Broken(shortest(world, rule, path)),
        None if world.is_cut() => Outcome::Cut { states },
        None => {
            let sees = world.situation.sees.iter();
            Outcome::Holds { states, unseen: sees.copied().filter(|seen| world.times_seen(*seen) == 0).collect() }
        }
    };
    Run { outcome, steps, time }
}

/// So many states are looked at for a shorter path.
const SHORTER_MAX: usize = 400_000;

/// A shortest path on which a rule is broken. The one that was found is some path.
fn shortest(world: &World, rule: &'static str, path: Vec<Action>) -> Failure<Action> {
    let is_broken = |state: &crate::State| state.broken.is_some_and(|broken| broken.rule() == rule);
    let shorter = graph::shortest(world, is_broken, SHORTER_MAX);
    Failure { rule, path: shorter.filter(|shorter| shorter.len() <= path.len()).unwrap_or(path) }
}

/// Asks [`graph::look`] whether all waiting in a world ends, without further failures.
///
/// Returns the states that were seen, or a path to a state from which no rest can be reached.
///
/// # Errors
///
/// The fault.
pub fn nobody_waits(world: &World) -> Result<usize, Failure<Action>> {
    let is_rest = |state: &crate::State| world.enabled(state).iter().all(|action| action.is_failure());
    graph::look(world, is_rest, |action| !action.is_failure(), |_| true)
}
