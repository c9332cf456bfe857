//! The tests of the harness, in one binary, because each binary links all of its crates.

mod past;

mod as_of;
mod blind;
mod collect;
mod compressed;
mod concurrent;
mod copying;
mod export;
mod external;
mod overlay;
mod peers_md;
mod rules;
mod scenarios;
mod small;
mod zodb;
