//! `cargo xtask bench`: the engine, the real ZODB and the bare machine, on the same file in the same run.
//!
//! Each figure is the best of several rounds, in which the three take turns, so that a slow moment of the machine hits
//! all of them. The file is in the page cache: the software is measured, not the disk.
//!
//! | file | idea |
//! |---|---|
//! | `rows.rs` | one function for each row of the table |
//! | `journal.rs` | the rows of commits with a journal |
//! | `table.rs` | the table: printed for people, and read back from another build |
//! | `serve/` | the rows of the server |
//! | `cache.rs` | the rows of the client cache |
//! | `objects.rs` | the rows of persistent objects |
//! | `object_mail.rs`, `object_trees.rs` | the rows of the mail benchmark, and of B-trees |
//! | `against.rs` | this build and another one, taking turns (`--against`) |

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::{Outcome, day, number, venv};

mod against;
mod cache;
mod journal;
mod message;
mod object_mail;
mod object_trees;
mod objects;
mod pack;
mod rows;
mod serve;
mod table;

/// Times the engine beside the real ZODB and the bare machine
///
/// All are timed in the same run, on the same mail database, which ZODB makes.
#[derive(Debug, Args)]
pub struct Bench {
    /// The size of the mail database, in messages
    #[arg(long, value_name = "N", default_value = "100000", value_parser = number)]
    messages: u64,
    /// How often each row is measured; the table shows the best round
    #[arg(long, value_name = "N", default_value = "5", value_parser = number)]
    rounds: u64,
    /// Measure only this row
    #[arg(long, value_name = "ROW")]
    only: Option<Row>,
    /// Measure N rows, a different part each day
    #[arg(long, value_name = "N", value_parser = number, conflicts_with = "only")]
    today: Option<u64>,
    /// Compare this build with another one
    ///
    /// PROGRAM is the xtask binary of the other build. Both builds measure each row in turn, on the same database. The
    /// table shows the times of PROGRAM (before), the times of this build (after), and their ratios. A row that is more
    /// than 3 % slower gets more rounds; if it stays slower, the task fails. ZODB is not timed.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Print four decimals, for the build that compares.
    #[arg(long, hide = true)]
    exact: bool,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Open without an index
    Open,
    /// Open with an index
    OpenIndex,
    /// Random loads on one thread
    Load,
    /// Random loads on two threads
    Load2,
    /// Iterate over all transactions
    Iterate,
    /// The states of records as JSON, beside zodb-json-codec
    StatesJson,
    /// The states of records as text, all of them, beside the JSON of zodb-json-codec
    StatesText,
    /// Small commits with one sync
    CommitRelaxed,
    /// Small commits with two syncs
    Commit,
    /// Small commits with two syncs, on eight threads
    Commit8,
    /// Small commits with a journal
    CommitJournal,
    /// Small commits with a journal, on eight threads
    CommitJournal8,
    /// The longest of many commits with a journal
    CommitJournalLongest,
    /// Copy all transactions into a new file
    Copy,
    /// Pack to now, and keep the old file
    Pack,
    /// Pack to now, and remove the old file
    PackRemoving,
    /// The longest wait of a commit while packs run
    PackWait,
    /// The memory of a pack, counted in a process of its own
    PackMemory,
    /// The newest page of the undo log
    UndoLog,
    /// The first question about versions
    Versions,
    /// Commit a version of 100 objects
    Version100,
    /// Commit a version of 1000 objects
    Version1000,
    /// Loads over the network by one client, one at a time
    ServeLoad,
    /// Loads over the network by eight clients that do not wait for each answer
    ServeLoads8,
    /// Small commits over the network by eight clients, with one sync
    ServeCommit8,
    /// Small commits over the network by eight clients, with two syncs
    ServeCommit8Full,
    /// Small commits over the network by eight clients, in a journal
    ServeCommit8Journal,
    /// The prefetch of 50 objects by ZEO's own client
    #[value(name = "serve-prefetch50")]
    ServePrefetch50,
    /// The prefetch of 1000 objects by ZEO's own client
    #[value(name = "serve-prefetch1000")]
    ServePrefetch1000,
    /// A record of 64 MiB over the network, and the server's memory
    ServeLarge,
    /// Loads over the network while the database is packed, and the server's memory
    ServePack,
    /// Blobs of 1 MB, stored by one client
    ServeBlobStore,
    /// The same by eight clients
    #[value(name = "serve-blob-store8")]
    ServeBlobStore8,
    /// Blobs of 1 MB, loaded by one client
    ServeBlobLoad,
    /// The same by eight clients
    #[value(name = "serve-blob-load8")]
    ServeBlobLoad8,
    /// A blob of 64 MB, stored by one client
    ServeBlobStoreLarge,
    /// The same by eight clients
    #[value(name = "serve-blob-store-large8")]
    ServeBlobStoreLarge8,
    /// A blob of 64 MB, loaded by one client
    ServeBlobLoadLarge,
    /// The same by eight clients
    #[value(name = "serve-blob-load-large8")]
    ServeBlobLoadLarge8,
    /// The server's memory while blobs of 1 GiB and 4 GiB are moved, on the disk
    ServeBlobMemory,
    /// Cold loads by our client, one at a time, beside ZEO's client
    ClientLoad,
    /// Many stores in one transaction by our client, beside ZEO's client
    ClientStore,
    /// A bulk fetch by our client, beside the prefetch of ZEO's
    ClientFetch,
    /// A walk through a tree by our client, with and without prefetching
    ClientTree,
    /// The same with a server that is a millisecond away
    ClientTreeFar,
    /// A record of 64 MiB by our client, and its memory
    ClientLarge,
    /// A start of our client with a warm cache file, and without, a millisecond away
    ClientWarm,
    /// Hits of the client cache in memory, beside ZEO's and quick_cache
    CacheHit,
    /// The same on two threads
    #[value(name = "cache-hit2")]
    CacheHit2,
    /// Hits of the client cache in its file
    CacheHitFile,
    /// Open a full cache file of 1 GB, beside ZEO's
    CacheOpen,
    /// The memory of ghosts and of loaded messages, counted in a process of its own
    ObjectMemory,
    /// A million ghosts
    ObjectGhosts,
    /// Random messages made into objects
    ObjectActivate,
    /// The same with the records in memory
    ObjectActivateMemory,
    /// A walk over all objects of the mail database
    ObjectWalk,
    /// Messages made and put into B-trees, a commit every ten, with one sync
    ObjectMail,
    /// The same with two syncs
    ObjectMailFull,
    /// Keys put into a B-tree
    ObjectTreeInsert,
    /// Keys looked up in a B-tree
    ObjectTreeLookup,
    /// Ranges of a B-tree
    ObjectTreeRange,
}

type Trouble = Box<dyn std::error::Error>;

impl Row {
    /// The name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Bench {
    /// Measures, and prints the table.
    pub fn run(self) -> Outcome {
        let (python, path) = mail(self.messages)?;
        let rounds = self.rounds.max(1) as usize;
        let all: Vec<Row> = self.only.map_or_else(|| Row::value_variants().to_vec(), |row| vec![row]);
        let wanted = if let Some(count) = self.today { day::part(all, count) } else { all };
        if let Some(before) = &self.against {
            let ground = against::Ground::new(&venv::workshop("bench/against")?, &path, self.messages)?;
            let builds = against::Builds { before: before.clone(), after: std::env::current_exe()? };
            return against::compare(&ground, &builds, &wanted, rounds);
        }
        let folder = venv::workshop("bench")?;
        let rows = rows::Rows { python: &python, path: &path, folder: &folder, rounds, exact: self.exact };
        rows.measure(&wanted)
    }
}

/// The Python that has ZODB, and the mail database that it made.
pub fn mail(messages: u64) -> Result<(PathBuf, PathBuf), Box<dyn std::error::Error>> {
    let python = venv::python()?;
    let folder = venv::workshop("bench")?;
    let path = folder.join(format!("mail-{messages}.fs"));
    if !path.exists() {
        eprintln!("making {} with ZODB; this takes a minute or two", path.display());
        let new = folder.join("new.fs");
        venv::succeed(
            Command::new(&python).arg(venv::script("mail.py")).arg(&new).arg("--messages").arg(messages.to_string()),
        )?;
        let _ = std::fs::remove_file(folder.join("new.fs.index"));
        std::fs::rename(&new, &path)?;
    }
    Ok((python, path))
}
