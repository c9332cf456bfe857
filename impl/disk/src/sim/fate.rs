//! The results of a crash.
//!
//! Chance that is spread evenly is a poor enemy: of a thousand sectors that are each kept with one chance in two, never
//! will all but one survive, and that is the case in which an engine believes a commit record whose data is missing.
//! So a crash first draws a mood, and in most moods each file draws how much of it is kept, the extremes included.
use std::collections::BTreeMap;
use std::path::Path;

use super::image::{SECTOR, Sector, Since};
use super::names::Change;
use super::rng::Rng;

/// The power fails, and this decides the state after it.
#[derive(Debug)]
pub(super) struct Crash {
    mood: Mood,
    rng: Rng,
    /// Whether a sector can hold the beginning of one write and the end of another.
    torn_sectors: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Nothing reached the platter since the last sync.
    LoseEverything,
    /// Everything did.
    KeepEverything,
    /// All operations up to this one did, and none later: what most people believe that all disks do.
    InOrder { until: u64 },
    /// Each thing for itself: kept so many times out of [`EIGHTHS`].
    Scattered { keep: u64 },
}

const EIGHTHS: u64 = 8;

impl Crash {
    pub(super) fn losing_everything() -> Self {
        Crash { mood: Mood::LoseEverything, rng: Rng::new(0), torn_sectors: false }
    }

    pub(super) fn keeping_everything() -> Self {
        Crash { mood: Mood::KeepEverything, rng: Rng::new(0), torn_sectors: false }
    }

    /// A crash after operation `now`, when `oldest` is the first operation that it might undo.
    pub(super) fn random(seed: u64, oldest: u64, now: u64, torn_sectors: bool) -> Self {
        assert!(oldest <= now, "operation {oldest} is yet to come at {now}");
        let mut rng = Rng::new(seed);
        let mood = if rng.chance(1, 4) {
            Mood::InOrder { until: oldest.saturating_sub(1) + rng.below(now - oldest + 2) }
        } else {
            Mood::Scattered { keep: EIGHTHS / 2 }
        };
        Crash { mood, rng, torn_sectors }
    }

    /// To be called before the questions about each file.
    pub(super) fn next_file(&mut self) {
        if let Mood::Scattered { keep } = &mut self.mood {
            *keep = [0, 1, EIGHTHS / 2, EIGHTHS - 1, EIGHTHS][self.rng.below(5) as usize];
        }
    }

    /// The length of a file that has had these `lengths`: one of them, or a whole number of sectors in between.
    pub(super) fn length(&mut self, lengths: &[Since<u64>]) -> u64 {
        let last = lengths.len() - 1;
        let index = match self.mood {
            Mood::LoseEverything => 0,
            Mood::KeepEverything => last,
            Mood::InOrder { until } => lengths.iter().rposition(|length| length.since <= until).unwrap_or(0),
            Mood::Scattered { keep } if self.rng.chance(keep, EIGHTHS) => last,
            Mood::Scattered { .. } => {
                let had = self.rng.below(lengths.len() as u64) as usize;
                let shortest = lengths.iter().map(|length| length.value).min().expect("a file has a length");
                let longest = lengths.iter().map(|length| length.value).max().expect("a file has a length");
                let sectors = shortest / SECTOR as u64 + 1..longest.div_ceil(SECTOR as u64);
                if !sectors.is_empty() && self.rng.coin() {
                    return (sectors.start + self.rng.below(sectors.end - sectors.start)) * SECTOR as u64;
                }
                had
            }
        };
        lengths[index].value
    }

    /// The contents of a sector that held `former` and then, from operation `since` on, `current`.
    pub(super) fn sector(&mut self, former: &[Since<Sector>], since: u64, current: impl Fn() -> Sector) -> Sector {
        let last = former.len();
        let state = |index: usize| former.get(index).map_or_else(&current, |state| state.value.clone());
        let index = match self.mood {
            Mood::LoseEverything => 0,
            Mood::KeepEverything => last,
            Mood::InOrder { until } if since <= until => last,
            Mood::InOrder { until } => former.iter().rposition(|state| state.since <= until).unwrap_or(0),
            Mood::Scattered { .. } if self.torn_sectors && self.rng.chance(1, EIGHTHS) => {
                let newer = 1 + self.rng.below(last as u64) as usize;
                let cut = 1 + self.rng.below(SECTOR as u64 - 1) as usize;
                let mut torn = state(newer - 1);
                torn[..cut].copy_from_slice(&state(newer)[..cut]);
                return torn;
            }
            Mood::Scattered { keep } if self.rng.chance(keep, EIGHTHS) => last,
            Mood::Scattered { .. } if self.rng.coin() => 0,
            Mood::Scattered { .. } => self.rng.below(last as u64) as usize,
        };
        state(index)
    }

    /// Which of these changes of names reached the platter. Whether they can without the others is the caller's matter.
    pub(super) fn wishes(&mut self, changes: &[Change]) -> Vec<bool> {
        match self.mood {
            Mood::LoseEverything => vec![false; changes.len()],
            Mood::KeepEverything => vec![true; changes.len()],
            Mood::InOrder { until } => changes.iter().map(|change| change.at <= until).collect(),
            Mood::Scattered { .. } => self.scattered_wishes(changes),
        }
    }

    /// Filesystems keep the changes of a directory in order for the most part, so mostly each directory keeps the first
    /// few; now and then any of them.
    fn scattered_wishes(&mut self, changes: &[Change]) -> Vec<bool> {
        let mut counts: BTreeMap<&Path, u64> = BTreeMap::new();
        for directory in changes.iter().flat_map(Change::directories) {
            *counts.entry(directory).or_default() += 1;
        }
        let mut first: BTreeMap<&Path, Option<u64>> = BTreeMap::new();
        for (directory, count) in counts {
            let in_order = self.rng.chance(3, 4);
            first.insert(directory, in_order.then(|| self.rng.below(count + 1)));
        }
        let mut wishes = Vec::with_capacity(changes.len());
        for change in changes {
            let mut wish = true;
            for directory in change.directories() {
                wish &= match first.get_mut(directory).expect("every directory was counted") {
                    None => self.rng.coin(),
                    Some(0) => false,
                    Some(left) => {
                        *left -= 1;
                        true
                    }
                };
            }
            wishes.push(wish);
        }
        wishes
    }
}
