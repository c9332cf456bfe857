//! The parts that Vellum's commands share: output, exit codes, progress bars, and numbers as people read them.
//!
//! | module | what it has |
//! |---|---|
//! | [`output`] | standard output, failures, and the exit code: 0, 1 or 2 |
//! | [`people`] | sizes, counts, times, and text from a database |
//! | [`progress`] | a progress bar on standard error |
//!
//! Answers go to standard output, everything else to standard error, as [`say`] does. A command is a function that
//! writes to [`Out`] and returns a [`Run`]; [`output::run`] makes the exit code of it.
#![forbid(unsafe_code)]

pub mod output;
pub mod people;
pub mod progress;

pub use output::{Failure, Out, Outcome, Run, say};
pub use progress::Meter;
