//! Faults while the power is on, and the moment when it fails.
//!
//! Every call that could change the disk is an *operation*, and operations are numbered from zero. A test plays a
//! history once to learn how many there are, and then again and again, with something going wrong at each.
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;

use super::rng::Rng;

/// How much of an operation is done when the power goes off in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing.
    NotAtAll,
    /// Some of it, by chance: a write its beginning or any of its sectors, `set_len` a length on the way, a sync some
    /// of the sectors, and what can only be done or not is done or not.
    Partly,
    /// All of it, but the caller never hears of it.
    Wholly,
}

/// Whether this error says that the simulated power is off, directly or as the cause of another error.
///
/// A test that cuts the power stops its history at this error, and complains of any other.
pub fn is_power_cut(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<PowerCut>() {
            return true;
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // An `io::Error` names as its source the source of its inner error, and passes that itself over.
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[derive(Debug)]
struct PowerCut;

impl Error for PowerCut {}

impl fmt::Display for PowerCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated power is off")
    }
}

fn power_cut() -> io::Error {
    io::Error::other(PowerCut)
}

/// The faults that a test has planned, and the number of operations so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    seed: u64,
    operations: u64,
    power_is_off: bool,
    stop: Option<(u64, Tear)>,
    failures: BTreeMap<u64, (io::ErrorKind, bool)>,
    reads: u64,
    failing_read: Option<u64>,
}

/// An operation that will not end well.
#[derive(Debug)]
pub(super) struct Misfortune {
    pub(super) tear: Tear,
    /// The caller's error.
    pub(super) error: io::Error,
    pub(super) power_cut: bool,
    pub(super) rng: Rng,
}

impl Misfortune {
    /// Whether an operation that cannot be done by halves is done.
    pub(super) fn done(&mut self) -> bool {
        match self.tear {
            Tear::NotAtAll => false,
            // When the power stays on, someone will look: let it be the surprising answer.
            Tear::Partly => !self.power_cut || self.rng.coin(),
            Tear::Wholly => true,
        }
    }
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Faults { seed, ..Faults::default() }
    }

    pub(super) fn stop_at(&mut self, operation: u64, tear: Tear) {
        self.stop = Some((operation, tear));
    }

    pub(super) fn fail_at(&mut self, operation: u64, kind: io::ErrorKind, partial: bool) {
        self.failures.insert(operation, (kind, partial));
    }

    pub(super) fn fail_read(&mut self, after: u64) {
        self.failing_read = Some(self.reads + after);
    }

    /// Whether the read that is about to be done fails.
    pub(super) fn read_fails(&mut self) -> bool {
        self.reads += 1;
        self.failing_read.take_if(|number| *number < self.reads).is_some()
    }

    /// How many operations there were. This is also the number of the next one.
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_is_off { Err(power_cut()) } else { Ok(()) }
    }

    /// Lets the next operation begin, and says whether it will go wrong.
    pub(super) fn begin(&mut self) -> io::Result<Option<Misfortune>> {
        self.check_power()?;
        let operation = self.operations;
        self.operations += 1;
        // A stream of its own, so that chance here does not depend on what happened before.
        let rng = Rng::stream(self.seed, operation);
        if let Some((_, tear)) = self.stop.filter(|&(stop, _)| stop <= operation) {
            self.power_is_off = true;
            return Ok(Some(Misfortune { tear, error: power_cut(), power_cut: true, rng }));
        }
        Ok(self.failures.remove(&operation).map(|(kind, partial)| {
            let tear = if partial { Tear::Partly } else { Tear::NotAtAll };
            let error = io::Error::new(kind, format!("operation {operation} of the simulated disk was told to fail"));
            Misfortune { tear, error, power_cut: false, rng }
        }))
    }
}
