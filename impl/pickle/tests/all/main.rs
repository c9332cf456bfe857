//! The tests of the pickle scanner, in one binary, because each binary links all of its crates.

mod common;

mod golden;
mod hostile;
mod json;
mod parts;
mod plain;
mod python_2;
mod references;
mod render;
mod rewrite;
