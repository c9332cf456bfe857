//! The tests of the simulator, in one binary, because each binary links all of its crates.

mod cache;
mod chart;
mod policies;
mod traces;
