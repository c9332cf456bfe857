//! The counters of a run: whether the threads really met.

use std::fmt;

use crate::subject::Can;

/// How often each event happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls that were recorded and explained.
    pub calls: u64,
    /// Reads among them.
    pub reads: u64,
    /// Transactions that were finished.
    pub finished: u64,
    /// Votes that merged records.
    pub merged: u64,
    /// Finished transactions that undid others.
    pub undone: u64,
    /// Finished transactions that ended a version with objects in it.
    pub ended: u64,
    /// Transactions that a rule refused.
    pub refused: u64,
    /// Votes that found an object busy.
    pub busy: u64,
    /// Reads during which a commit may have been shown: those with several possible explanations.
    pub raced: u64,
    /// Votes during which a commit may have been shown.
    pub votes_raced: u64,
    /// Packs.
    pub packs: u64,
    /// Packs during which a commit was shown.
    pub packs_raced: u64,
    /// Answers that only a pack explains.
    pub packed: u64,
    /// Undos that were refused because of a pack.
    pub undos_forgotten: u64,
    /// Private objects that were gone in the end.
    pub collected: u64,
}

impl Report {
    /// Adds another run's counters.
    pub fn add(&mut self, other: &Report) {
        let Report { calls, reads, finished, merged, undone, ended, refused, busy, .. } = other;
        let Report { raced, votes_raced, packs, packs_raced, packed, undos_forgotten, collected, .. } = other;
        for (sum, more) in [
            (&mut self.calls, calls),
            (&mut self.reads, reads),
            (&mut self.finished, finished),
            (&mut self.merged, merged),
            (&mut self.undone, undone),
            (&mut self.ended, ended),
            (&mut self.refused, refused),
            (&mut self.busy, busy),
            (&mut self.raced, raced),
            (&mut self.votes_raced, votes_raced),
            (&mut self.packs, packs),
            (&mut self.packs_raced, packs_raced),
            (&mut self.packed, packed),
            (&mut self.undos_forgotten, undos_forgotten),
            (&mut self.collected, collected),
        ] {
            *sum += more;
        }
    }

    /// The events that should happen in every long run of such a storage, and did not happen in this one.
    pub fn never(&self, can: Can) -> Vec<&'static str> {
        [
            (true, self.finished, "a transaction was finished"),
            (can.resolve, self.merged, "changes were merged"),
            (can.undo, self.undone, "something was undone"),
            (can.versions, self.ended, "a version was ended"),
            (true, self.refused, "a transaction was refused"),
            (true, self.busy, "an object was busy"),
            (true, self.raced, "something was committed during a read"),
            (true, self.votes_raced, "something was committed during a vote"),
            (self.packs > 0, self.packs_raced, "something was committed during a pack"),
            (self.packs > 0, self.packed, "a pack was seen"),
            (self.packs > 0 && can.undo, self.undos_forgotten, "an undo was refused because of a pack"),
            (self.packs > 0 && can.collect, self.collected, "garbage was collected"),
        ]
        .into_iter()
        .filter_map(|(needed, count, what)| (needed && count == 0).then_some(what))
        .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { calls, reads, finished, merged, undone, ended, refused, busy, raced, votes_raced, .. } = self;
        let Report { packs, packs_raced, packed, undos_forgotten, collected, .. } = self;
        if *packs > 0 {
            writeln!(
                f,
                "{packs} packs ({packs_raced} raced a commit), {packed} answers that only they explain, {undos_forgotten} \
                 undos refused for them, {collected} objects collected"
            )?;
        }
        write!(
            f,
            "{calls} calls: {reads} reads ({raced} raced a commit), {finished} transactions finished ({merged} merged, \
             {undone} undid something, {ended} ended a version), {refused} refused, {busy} times busy, {votes_raced} votes raced a commit"
        )
    }
}
