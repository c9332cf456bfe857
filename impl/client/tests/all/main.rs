//! Tests of the client: stories, games, the shell, and the rules.

mod addresses;
mod ahead;
mod blobs;
mod cached;
mod common;
mod crashes;
mod driver;
mod games;
mod options;
mod processes;
mod promises;
mod proxy;
mod rules;
mod shell;
mod small;
mod stories;
mod threads;
mod tls;
mod waiting;
