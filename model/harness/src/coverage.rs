//! Which corners of the rules the histories reached, and how often.
//!
//! A generator that never reaches a corner proves nothing about it, and does not say so either. So each step and each
//! answer is looked up in the table of corners ([`Corner`]). A run fails if it never reached a corner, was long enough,
//! and the storage can do what the corner needs.
//!
//! | file | which corners are reached |
//! |---|---|
//! | `corner.rs` | the table of all corners |
//! | `steps.rs` | by a step: a change, a vote, a finish, a refusal |
//! | `packs.rs` | by a pack |
//! | `blobs.rs` | by a step on blobs |
//! | `answers.rs` | by a question and its answer |

use std::fmt;

use crate::question::{Answer, Question};
use crate::step::{Outcome, Step};
use crate::subject::Can;
use crate::world::World;

mod answers;
mod blobs;
mod corner;
mod forgets;
mod packs;
mod steps;

pub use corner::Corner;

/// Corners, each with the condition under which it is reached.
type Conditions = Vec<(bool, Corner)>;

/// How often each corner was reached.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Histories played.
    pub histories: u64,
    /// Steps that were done.
    pub steps: u64,
    /// Answers that were compared.
    pub answers: u64,
    counts: Vec<u64>,
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { histories: 0, steps: 0, answers: 0, counts: vec![0; Corner::ALL.len()] }
    }
}

impl Coverage {
    /// How often a corner was reached.
    pub fn count(&self, corner: Corner) -> u64 {
        self.counts[corner as usize]
    }

    /// The corners that were never reached, of those that such a storage can reach.
    pub fn missing(&self, can: Can) -> Vec<Corner> {
        Corner::ALL.iter().copied().filter(|c| is_within_reach(can, *c) && self.count(*c) == 0).collect()
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Coverage) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.answers += other.answers;
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The table, for a storage with these capabilities.
    pub fn table(&self, can: Can) -> Table<'_> {
        Table { coverage: self, can }
    }

    fn reach(&mut self, conditions: Conditions) {
        for (_, corner) in conditions.into_iter().filter(|(reached, _)| *reached) {
            self.counts[corner as usize] += 1;
        }
    }

    /// Counts the corners that a step reached.
    pub fn step(&mut self, before: &World, step: &Step, outcome: &Outcome, after: &World) {
        self.steps += 1;
        self.reach(steps::corners(before, step, outcome, after));
        self.reach(blobs::corners(before, step, outcome, after));
        self.reach(forgets::corners(before, step, outcome, after));
        if let (Step::Pack { to, collect, .. }, Outcome::Packed { .. }) = (step, outcome) {
            let to = before.pack_time(*to);
            self.reach(packs::corners(before, step, to, *collect, &after.database));
        }
        if let (Step::PackByCounts { to }, Outcome::Packed { .. }) = (step, outcome) {
            let to = before.pack_time(*to);
            self.reach(packs::corners_of_counts(&before.database, to, &after.database));
        }
    }

    /// Counts the corners that questions and their answers reached.
    pub fn answers(&mut self, world: &World, questions: &[Question], answers: &[Answer]) {
        self.answers += answers.len() as u64;
        for (question, answer) in questions.iter().zip(answers) {
            self.reach(answers::corners(&world.database, question, answer));
        }
    }
}

/// Whether such a storage can reach the corner.
fn is_within_reach(can: Can, corner: Corner) -> bool {
    use Corner::*;
    let never: &[Corner] = match can.forgets {
        None => &[],
        // They need an older revision, or a transaction that is later than a pack.
        Some(0) => {
            &[BeforeNext, HistoryLong, PackKeepsLater, PackBase, PackDanglingLater, CountsForgets, EndOfVersionBlob]
        }
        Some(_) => &[PackBase, ForgetsAtOnce, ForgetsBase],
    };
    can.covers(corner.needs()) && !never.contains(&corner)
}

/// The table of corners.
pub struct Table<'a> {
    coverage: &'a Coverage,
    can: Can,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rule       times  what")?;
        for &corner in Corner::ALL {
            let count = match self.coverage.count(corner) {
                0 if !is_within_reach(self.can, corner) => "-".to_owned(),
                0 => "NEVER".to_owned(),
                count => count.to_string(),
            };
            writeln!(f, "{:<5} {count:>10}  {}", corner.rule(), corner.what())?;
        }
        Ok(())
    }
}
