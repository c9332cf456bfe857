//! The tests of `FileStorage`, in one binary, because each binary links the harness.
//!
//! ```text
//!   rules        what a commit, an undo, a version, a copy and a pack do and cost
//!   crash        the power goes: acknowledged commits are there, and nothing half made is seen
//!   damage       wrong bytes, failing and full disks, wrong indexes: the error says so, and recovery saves the rest
//!   concurrency  threads, and packs beside commits
//!   compat       files that the real ZODB wrote, and its index
//!   prove        the harness's histories, crashes and threads
//!   common       helpers of several of them
//! ```

mod common;

mod rules {
    mod access;
    mod blob_stories;
    mod blobs;
    mod copying;
    mod packing;
    mod records;
    mod referrers;
    mod undo;
    mod versions;
}

mod crash {
    mod commits;
    mod copies;
    mod journal;
    mod kill;
    mod packs;
}

mod damage {
    mod bytes;
    mod disk;
    mod index;
    mod journal;
    mod recover;
}

mod concurrency {
    mod commits;
    mod open;
    mod packs;
}

mod compat {
    mod golden;
    mod index;
}

mod prove {
    mod compressed;
    mod crashes;
    mod histories;
    mod overlays;
    mod threads;
}
