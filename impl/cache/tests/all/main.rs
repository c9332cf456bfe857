//! The tests of the cache, in one binary, because each binary links all of its crates.

mod world;

mod file;
mod guest;
mod through;
mod truth;
mod zec;
