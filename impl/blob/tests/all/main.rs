//! The tests of the blob folder, in one binary, because each binary links all of its crates.

mod common;

mod crash;
mod folder;
mod names;
mod removal;
mod story;
mod threads;
