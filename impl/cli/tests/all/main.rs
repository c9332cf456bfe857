//! The tests of the command, in one binary, because each binary links all of its crates.

#[macro_use]
mod common;

mod access;
mod blob_folder;
mod blob_tools;
mod blobs;
mod btrees;
mod cache;
mod classes;
mod collect;
mod compressed;
mod copy;
mod disorder;
mod dump;
mod ends;
mod future;
mod garbage;
mod journal;
mod moving;
mod pack;
mod python_2;
mod restore;
mod serving;
mod serving_tables;
mod sessions;
mod several;
mod states;
mod status;
mod tables;
mod undo;
mod untold;
mod usage;
mod versions;
