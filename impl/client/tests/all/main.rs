//! Tests of the client: stories, games, the shell, and the rules.

mod addresses;
mod games;
mod stories;
