//! TableStorage held to the rules.

mod common;
mod crashes;
mod histories;
mod threads;
