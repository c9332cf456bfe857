//! The tests of the disks, in one binary, because each binary links all of its crates.

mod crash;
mod faults;
mod model;
mod names;
mod real;
mod tree;
