//! The situations that are explored: the clients' steps, and the failures that may happen.

/// A step of an application's thread. A thread does one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Loads an object as the client knows it.
    Load(u64),
    /// Loads an object as it was before the last transaction that the client knows.
    LoadPast(u64),
    /// Loads an object, changes it, and commits that. After a conflict the thread gives it up.
    Write(u64),
    /// The same, and the vote is given up while it is under way.
    WriteAndAbort(u64),
    /// Stores one object, having looked at another one that must not change.
    WriteAndCheck {
        /// The object that is written.
        written: u64,
        /// The object that is looked at.
        checked: u64,
    },
    /// Has the server send all objects ahead of their loads.
    Prefetch,
    /// Loads all objects at once.
    LoadAll,
    /// Waits for all that was committed before.
    Sync,
    /// Packs to the last transaction.
    Pack,
}

/// A situation, and the failures that may happen in it.
#[derive(Clone, Debug)]
pub struct Situation {
    /// Its name.
    pub name: &'static str,
    /// Its subject, in a sentence.
    pub about: &'static str,
    /// The threads of each client.
    pub clients: &'static [&'static [&'static [Step]]],
    /// How many objects there are.
    pub objects: u64,
    /// Whether all clients have loaded all objects before it begins.
    pub is_warm: bool,
    /// How many transactions the server remembers for clients that were away.
    pub remembered: usize,
    /// How often a connection may be cut.
    pub cuts: u8,
    /// How often the server may end and begin again. Transactions that were not told are lost, or not.
    pub restarts: u8,
    /// How often the server's time may pass, so that a transaction has been voted for too long.
    pub server_timeouts: u8,
    /// How often a client's time may pass, so that it waits no longer for an answer.
    pub client_timeouts: u8,
    /// How often an answer to a load may fall behind the next message: a server may answer loads beside all else, and
    /// the real one does.
    pub overtakings: u8,
    /// Whether the server offers this project's additions to the protocol: bulk fetches and prefetches.
    pub extends: bool,
    /// The orders of events that must occur.
    pub sees: &'static [Seen],
    /// The lie that must be found in it: its self-test.
    pub lie: Lie,
    /// Different states, as counted once. Another number means that the machines do something else.
    pub states: Option<usize>,
    /// Whether the clients have the core of `vellum-cache`, in place of the simple cache.
    pub is_over_core: bool,
    /// Different states with that core.
    pub states_over_core: Option<usize>,
}

impl Situation {
    /// The same with the core of `vellum-cache`.
    pub fn over_core(self) -> Situation {
        Situation { is_over_core: true, states: self.states_over_core, ..self }
    }
}

/// An interesting order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An invalidation of an object reached a client that was loading it.
    InvalidationCrossedLoad,
    /// A load was read from the disk before a commit, and the server hears of the commit first.
    CommitCrossedRead,
    /// A load read a transaction of which the server was not told yet.
    ReadFromTheFuture,
    /// Two clients' second phases were under way at the same moment.
    FinishesOverlapped,
    /// A vote waited for another transaction, and was tried again.
    VoteWaited,
    /// The lock that a vote waited for was free before the server heard that it waits.
    WokenEarly,
    /// A client came back, and was told what it had missed.
    CameBack,
    /// A client came back, and nobody knew what it had missed.
    AwayTooLong,
    /// A client came back while the server still had its earlier connection.
    TwoConnections,
    /// A transaction was told while a client verified its cache.
    ToldWhileVerifying,
    /// The answer to a finish was lost, and the transaction is there.
    FinishUnknown,
    /// The answer to a finish was lost, and so is the transaction.
    FinishLost,
    /// The server ended, and lost what nobody was told of.
    RestartLost,
    /// The server gave up a voted transaction while the client's finish was under way.
    TimedOutBeforeFinish,
    /// A client waited no longer for an answer.
    ClientGaveUp,
    /// A conflict was refused.
    Conflict,
    /// An object that was only looked at had changed.
    ReadConflict,
    /// A pack discarded a revision while a load of it was under way.
    PackCrossedLoad,
    /// An answer to a load arrived after an invalidation that was sent after it.
    Overtaken,
    /// A piece of a prefetch was read before a commit, and the server hears of the commit first.
    CommitCrossedPrefetch,
    /// A prefetched revision reached a client that had been told of a later one.
    PrefetchedOld,
}

impl Seen {
    /// All of them.
    pub const ALL: [Seen; 21] = [
        Seen::InvalidationCrossedLoad,
        Seen::CommitCrossedRead,
        Seen::ReadFromTheFuture,
        Seen::FinishesOverlapped,
        Seen::VoteWaited,
        Seen::WokenEarly,
        Seen::CameBack,
        Seen::AwayTooLong,
        Seen::TwoConnections,
        Seen::ToldWhileVerifying,
        Seen::FinishUnknown,
        Seen::FinishLost,
        Seen::RestartLost,
        Seen::TimedOutBeforeFinish,
        Seen::ClientGaveUp,
        Seen::Conflict,
        Seen::ReadConflict,
        Seen::PackCrossedLoad,
        Seen::Overtaken,
        Seen::CommitCrossedPrefetch,
        Seen::PrefetchedOld,
    ];

    /// The order, in words.
    pub fn name(self) -> &'static str {
        match self {
            Seen::InvalidationCrossedLoad => "an invalidation crossed a load",
            Seen::CommitCrossedRead => "a commit crossed a load that was read before it",
            Seen::ReadFromTheFuture => "a load read what the server was not told of",
            Seen::FinishesOverlapped => "two second phases overlapped",
            Seen::VoteWaited => "a vote waited for another transaction",
            Seen::WokenEarly => "a vote was free before the server heard that it waits",
            Seen::CameBack => "a client came back having missed commits",
            Seen::AwayTooLong => "a client was away for too long",
            Seen::TwoConnections => "a client came back before the server lost its earlier connection",
            Seen::ToldWhileVerifying => "a commit was told while a client verified its cache",
            Seen::FinishUnknown => "the answer to a finish was lost",
            Seen::FinishLost => "a finish was lost with its answer",
            Seen::RestartLost => "a restart lost what nobody was told of",
            Seen::TimedOutBeforeFinish => "a timeout fired between vote and finish",
            Seen::ClientGaveUp => "a client waited no longer for an answer",
            Seen::Conflict => "a conflict was refused",
            Seen::ReadConflict => "a read conflict was refused",
            Seen::PackCrossedLoad => "a pack crossed a load",
            Seen::Overtaken => "an invalidation overtook a load's answer",
            Seen::CommitCrossedPrefetch => "a prefetch crossed a commit",
            Seen::PrefetchedOld => "a prefetched revision was older than what its client was told of",
        }
    }
}

/// A lie of the world around the machines, for the self-tests: one of the rules must notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// The storage forgets the oldest object of each transaction that it tells of.
    NamesTooFew,
    /// Messages of a connection that was cut arrive by the next one.
    OldMessages,
    /// A restart loses a transaction that was told.
    LosesTheTold,
    /// The storage drops nothing for a client that is gone.
    KeepsLocks,
    /// A commit writes another record than the voted one.
    WritesAnother,
    /// Transactions are told in the wrong order.
    WrongOrder,
    /// A pack discards an object's newest revision.
    PackLosesObject,
    /// The last state of all is called broken.
    BreaksAtTheEnd,
}

use Step::{Load, LoadAll, LoadPast, Pack, Prefetch, Sync, Write, WriteAndAbort, WriteAndCheck};

/// All situations that `cargo test` explores.
pub const SITUATIONS: &[Situation] = &[
    CROSSING,
    TWO_PHASES,
    COMING_BACK,
    AWAY_TOO_LONG,
    LOCKS,
    RESTART,
    WAITING_NO_LONGER,
    PACKING,
    FINISHES,
    ANOTHER_SERVER,
    FETCHING_AHEAD,
];

/// A situation in which nothing fails, and nothing happens.
const PLAIN: Situation = Situation {
    name: "",
    about: "",
    clients: &[],
    objects: 2,
    is_warm: false,
    remembered: 3,
    cuts: 0,
    restarts: 0,
    server_timeouts: 0,
    client_timeouts: 0,
    overtakings: 0,
    extends: false,
    sees: &[],
    lie: Lie::NamesTooFew,
    states: None,
    is_over_core: false,
    states_over_core: None,
};

const CROSSING: Situation = Situation {
    name: "crossing",
    about: "one client commits twice while another one loads, both as it is and as it was",
    clients: &[&[&[Write(0), Write(1)]], &[&[Load(0), Load(0)], &[LoadPast(1), Load(1)], &[Sync]]],
    sees: &[Seen::InvalidationCrossedLoad, Seen::CommitCrossedRead, Seen::ReadFromTheFuture],
    lie: Lie::NamesTooFew,
    states: Some(218_612),
    ..PLAIN
};

const TWO_PHASES: Situation = Situation {
    name: "two-phases",
    about: "two clients commit to the same object and to another one, and a third one looks at both",
    clients: &[
        &[&[Write(0)], &[Load(1)]],
        &[&[WriteAndCheck { written: 1, checked: 0 }], &[Write(0)]],
        &[&[Load(0), Load(1)]],
    ],
    is_warm: true,
    sees: &[Seen::FinishesOverlapped, Seen::VoteWaited, Seen::WokenEarly, Seen::Conflict, Seen::ReadConflict],
    lie: Lie::WrongOrder,
    states: Some(367_283),
    ..PLAIN
};

const COMING_BACK: Situation = Situation {
    name: "coming-back",
    about: "a client with a full cache is cut off while another one commits, and comes back",
    clients: &[&[&[Write(0), Write(1)]], &[&[Load(0), Load(1)], &[LoadPast(0)]]],
    is_warm: true,
    cuts: 1,
    sees: &[Seen::CameBack, Seen::ToldWhileVerifying, Seen::FinishUnknown],
    lie: Lie::OldMessages,
    states: Some(92_825),
    states_over_core: Some(92_383),
    ..PLAIN
};

const AWAY_TOO_LONG: Situation = Situation {
    name: "away-too-long",
    about: "the same, and the server remembers only one transaction",
    clients: &[&[&[Write(0), Write(1)]], &[&[Load(0)]]],
    is_warm: true,
    remembered: 1,
    cuts: 1,
    sees: &[Seen::CameBack, Seen::AwayTooLong],
    lie: Lie::NamesTooFew,
    states: Some(14_241),
    states_over_core: Some(14_313),
    ..PLAIN
};

const LOCKS: Situation = Situation {
    name: "locks",
    about: "clients that want the same object are cut off, give up, or are given up by the server",
    clients: &[&[&[Write(0)]], &[&[WriteAndAbort(0), Write(0)]]],
    objects: 1,
    is_warm: true,
    cuts: 1,
    server_timeouts: 1,
    sees: &[Seen::VoteWaited, Seen::TwoConnections, Seen::TimedOutBeforeFinish],
    lie: Lie::KeepsLocks,
    states: Some(277_842),
    ..PLAIN
};

const RESTART: Situation = Situation {
    name: "restart",
    about: "the server ends and begins again while two clients commit; what nobody was told of is lost, or not",
    clients: &[&[&[Write(0)], &[Load(1)]], &[&[Write(1)]]],
    is_warm: true,
    restarts: 1,
    sees: &[Seen::RestartLost, Seen::FinishUnknown, Seen::FinishLost, Seen::CameBack],
    lie: Lie::LosesTheTold,
    states: Some(51_516),
    states_over_core: Some(51_516),
    ..PLAIN
};

const WAITING_NO_LONGER: Situation = Situation {
    name: "waiting-no-longer",
    about: "a client waits no longer for an answer that is on its way",
    clients: &[&[&[Write(0)]], &[&[Write(0), Load(0)], &[Sync]]],
    objects: 1,
    is_warm: true,
    client_timeouts: 1,
    sees: &[Seen::ClientGaveUp, Seen::FinishUnknown],
    lie: Lie::WritesAnother,
    states: Some(150_757),
    ..PLAIN
};

const PACKING: Situation = Situation {
    name: "packing",
    about: "one client commits and packs while another one loads what it knows",
    clients: &[&[&[Write(0), Pack], &[Load(1)]], &[&[Load(0), LoadPast(0)], &[Load(0), Load(1)]]],
    sees: &[Seen::PackCrossedLoad],
    lie: Lie::PackLosesObject,
    states: Some(142_145),
    ..PLAIN
};

const FINISHES: Situation = Situation {
    name: "finishes",
    about: "one client commits twice while another one's finish is under way",
    clients: &[&[&[Write(0)]], &[&[Write(1), Write(1)]]],
    sees: &[Seen::FinishesOverlapped],
    lie: Lie::WrongOrder,
    states: Some(978),
    states_over_core: Some(978),
    ..CROSSING
};

const ANOTHER_SERVER: Situation = Situation {
    name: "another-server",
    about: "answers to loads fall behind invalidations, as they may with another server",
    clients: &[&[&[Write(0), Write(1)]], &[&[Load(0), Load(0)], &[Load(1)]]],
    overtakings: 2,
    sees: &[Seen::InvalidationCrossedLoad, Seen::Overtaken],
    lie: Lie::NamesTooFew,
    states: Some(19_574),
    states_over_core: Some(19_574),
    ..CROSSING
};

const FETCHING_AHEAD: Situation = Situation {
    name: "fetching-ahead",
    about: "one client commits twice while another one fetches all objects ahead, and loads them",
    clients: &[&[&[Write(0), Write(1)]], &[&[Prefetch, Load(0)], &[LoadAll]]],
    extends: true,
    sees: &[Seen::CommitCrossedPrefetch, Seen::PrefetchedOld, Seen::InvalidationCrossedLoad],
    lie: Lie::NamesTooFew,
    states: Some(16_903),
    states_over_core: Some(16_422),
    ..CROSSING
};

/// Larger situations, for `vellum-explore --check --deep` and for the night. Their states are not counted beforehand.
pub const DEEP: &[Situation] = &[
    Situation {
        name: "two-cuts",
        about: "the clients of \"locks\" are cut off twice, and time passes on both sides",
        cuts: 2,
        client_timeouts: 1,
        sees: &[Seen::VoteWaited, Seen::TwoConnections, Seen::TimedOutBeforeFinish, Seen::ClientGaveUp],
        states: None,
        states_over_core: None,
        ..LOCKS
    },
    Situation {
        name: "three-clients",
        about: "three clients commit to two objects, each with two threads, and read them",
        clients: &[
            &[&[Write(0)], &[Load(1)]],
            &[&[WriteAndCheck { written: 1, checked: 0 }], &[Load(0)]],
            &[&[Write(1)], &[LoadPast(0), Load(0)]],
        ],
        objects: 2,
        sees: &[Seen::FinishesOverlapped, Seen::VoteWaited, Seen::InvalidationCrossedLoad],
        states: None,
        states_over_core: None,
        ..CROSSING
    },
    Situation {
        name: "restart-and-cut",
        about: "the server is started again while clients commit, and a connection is cut",
        clients: &[&[&[Write(0), Write(1)], &[Load(1)]], &[&[Write(1)], &[Load(0)]]],
        cuts: 1,
        states: None,
        states_over_core: None,
        ..RESTART
    },
    Situation {
        name: "everything",
        about: "a cut, a restart, and time that passes on both sides, with two clients that want the same object",
        clients: &[&[&[Write(0)], &[Load(0)]], &[&[Write(0)], &[Sync]]],
        objects: 1,
        cuts: 1,
        restarts: 1,
        server_timeouts: 1,
        client_timeouts: 1,
        sees: &[Seen::RestartLost, Seen::TwoConnections, Seen::TimedOutBeforeFinish, Seen::ClientGaveUp],
        states: None,
        states_over_core: None,
        ..RESTART
    },
];
