//! TableStorage held to the rules.

mod commits;
mod common;
mod crashes;
mod damage;
mod histories;
mod threads;
