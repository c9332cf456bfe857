//! The machine, with storages and clients in one thread, so that every order of events can be told as a story.

mod blobs;
mod conf;
mod games;
mod limits;
mod monitor;
mod reach;
mod shell;
mod stories;
mod tls;
