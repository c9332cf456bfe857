//! Bytes that nobody wrote, in every place where bytes come in.
//!
//! A fuzzer makes up bytes, runs a function on them, looks which branches it took, and goes on with those that took new
//! ones. What the function does with them is here, a file for each target; what makes them up is cargo-fuzz, in the crate
//! above this one. So the same functions run without it: a test of this crate replays every input that is worth keeping,
//! on the stable compiler, with everybody's `cargo test`.
//!
//! ```text
//!   fixtures/golden ──▶ seeds ──▶ fuzz/corpus/TARGET ──▶ cargo test -p vellum-fuzz       each input once, with its limits
//!                                      │    ▲
//!                                      ▼    │ cargo xtask corpus: what is new, as few and as small as can be
//!                         cargo xtask fuzz: libFuzzer, millions of inputs ──▶ fuzz/artifacts/TARGET    what fails
//! ```
//!
//! | target | the bytes are | and must |
//! |---|---|---|
//! | [`data_file`](mod@data_file) | a `Data.fs` and its `.index` | be refused with a reason, or be a database ([`trial`]) |
//! | [`damaged_file`](mod@damaged_file) | changes to a good database, after which lengths and pointers fit again | the same |
//! | [`history`](mod@history) | dice, for the harness's histories | come to what the rules say |
//! | [`crash`](mod@crash) | dice, for a history and for what a crash leaves of it | come to what the rules allow |
//! | [`record`](mod@record) | pickles | be read as a slow reader does ([`naive`]) |
//! | [`btrees`](mod@btrees) | the nodes of B-trees | keep their rules or break one, as a slow look at them says |
//! | [`wire`](mod@wire) | what the other side of a connection sends | be an error, or a message that can be sent again |
//! | [`server`](mod@server) | dice, for a game of clients with a server | break no promise of the server |
//! | [`client`](mod@client) | dice, for clients with an honest server, or with one that lies | tell the truth, and answer everything |
//! | [`zeo_conf`](mod@zeo_conf) | the files of a configuration | be refused with a place, or name what to serve |
//! | [`peer_pipe`](mod@peer_pipe) | what a foreign storage answers to the harness | be a difference, and no more |
//!
//! A target fails by panicking, whoever panics: the engine, or the target because something does not hold. Every input has
//! a limit of time and of memory besides ([`Target`]); whoever runs it holds it to them, as a target can not do that itself.
//!
//! # One more target
//!
//! The client's cache file will want one. A target is: a file here with a function that takes
//! bytes; its line in [`TARGETS`]; its seeds in [`seeds`]; three lines in `fuzz/fuzz_targets` and four in `fuzz/Cargo.toml`;
//! and, if it has words of its own, a dictionary. The tests of this crate say what was forgotten.
#![forbid(unsafe_code)]

pub mod btrees;
pub mod client;
pub mod crash;
pub mod damaged_file;
pub mod data_file;
pub mod history;
pub mod layout;
pub mod naive;
pub mod peer_pipe;
pub mod record;
pub mod seeds;
pub mod server;
pub mod site;
pub mod trial;
pub mod wire;
pub mod zeo_conf;

/// A function to which a fuzzer gives bytes, and what one input may take.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus, its dictionary and its binary too.
    pub name: &'static str,
    /// What it does with an input. It panics if something is wrong.
    pub run: fn(&[u8]),
    /// Bytes of an input.
    pub length_max: usize,
    /// Bytes that may be allocated at a time while one is run.
    pub memory_bytes_max: usize,
    /// What one may take, in an optimised build. Generous: an input that takes so long does so by far.
    pub seconds_max: u64,
    /// Whether there is a dictionary.
    pub dictionary: bool,
    /// Bytes of all inputs that are kept.
    pub corpus_bytes_max: u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "data_file",
        run: data_file::data_file,
        length_max: 64 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: true,
        corpus_bytes_max: 700 << 10,
    },
    Target {
        name: "damaged_file",
        run: damaged_file::damaged_file,
        length_max: 1 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 300 << 10,
    },
    Target {
        name: "history",
        run: history::history,
        length_max: 2 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 300 << 10,
    },
    Target {
        name: "crash",
        run: crash::crash,
        length_max: 1 << 10,
        memory_bytes_max: 128 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 300 << 10,
    },
    Target {
        name: "record",
        run: record::record,
        length_max: 16 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: true,
        corpus_bytes_max: 500 << 10,
    },
    Target {
        name: "btrees",
        run: btrees::btrees,
        length_max: 2 << 10,
        memory_bytes_max: 16 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 100 << 10,
    },
    Target {
        name: "peer_pipe",
        run: peer_pipe::peer_pipe,
        length_max: 16 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: true,
        corpus_bytes_max: 1536 << 10,
    },
    Target {
        name: "wire",
        run: wire::wire,
        length_max: 8 << 10,
        memory_bytes_max: 16 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 200 << 10,
    },
    Target {
        name: "server",
        run: server::server,
        length_max: 1 << 10,
        memory_bytes_max: 16 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 200 << 10,
    },
    Target {
        name: "client",
        run: client::client,
        length_max: 1 << 10,
        memory_bytes_max: 16 << 20,
        seconds_max: 10,
        dictionary: false,
        corpus_bytes_max: 200 << 10,
    },
    Target {
        name: "zeo_conf",
        run: zeo_conf::zeo_conf,
        length_max: 8 << 10,
        memory_bytes_max: 64 << 20,
        seconds_max: 10,
        dictionary: true,
        corpus_bytes_max: 300 << 10,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
