//! TableStorage held to the rules.

mod blobs;
mod commits;
mod common;
mod compact;
mod copies;
mod counts;
mod crashes;
mod damage;
mod histories;
mod history_free;
mod kill;
mod salvage;
mod stories;
mod threads;
