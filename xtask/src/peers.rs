//! `cargo xtask peers`: the engine beside the real ZODB 6.4, on the same files.
//!
//! A format is what its other readers and writers take it for. So each check has both engines do the same thing, or one
//! of them go on where the other left off, and compares whatever can be compared: whole files, and every answer.
//!
//! | check | what it holds together |
//! |---|---|
//! | `bytes` | one script of commits on two files: the files and their indexes are the same, byte for byte |
//! | `undo` | the same with undos, of transactions that can be undone and of others |
//! | `pack` | the same file, packed to the same time: the same bytes, or a difference that is judged |
//! | `back and forth` | one file, opened by the one and the other in turn |
//! | `reads` | every way to read, on files that ZODB wrote |
//! | `pickles` | references and classes in records |
//! | `states` | states as JSON, read back and compared with what CPython loads |
//! | `btrees` | conflicts in BTrees and lengths: merged to the same, or refused as well |
//! | `broken trees` | BTrees that break their rules, beside `BTrees.check` and `_check` |
//! | `cache policies` | the policies of `model/simulate` beside libcachesim, and ZEO's file beside `cache_simul` |
//! | `traces` | traces of ZEO's client on `vellum serve` and `runzeo`: our copy of its cache hits and misses as it does |
//! | `btree shapes` | B-trees that the BTrees package and our objects change in turn: the same nodes, records and answers |
//! | `python 2` | records of Python 2: which ones ZODB loads in Python 3 |
//! | `compressed` | zc.zlibstorage's layer and ours, in each form: the same histories, each other's files, packs and merges |
//! | `index` | the `.index` file, good and bad |
//! | `export` | an object and all that it refers to, exported and imported |
//! | `external` | garbage in databases that refer to each other, beside zc.zodbdgc |
//! | `blob folder` | blob folders that ZODB makes, seen, made again and packed by us, and gone on with by ZODB |
//! | `blob tools` | blobs checked, exported, copied, undone and packed by our commands and by ZODB, on the same files |
//! | `crash files` | the file that an interrupted commit leaves |
//! | `rules` | the harness of `model/harness` on ZODB |
//! | `storages` | two other storages of ZODB, held to the rules; `--storage` has them all |
//! | `clients` | Python's clients of ZEO 6.2 and 5.4.1 and `vellum serve`, in both codecs: merging, undo, packs, `kill -9`, caches |
//! | `clients with blobs` | the same clients with blobs, by transfers and with a shared folder; ZODB's FileStorage takes over, and back |
//! | `remote` | our client and `runzeo`, in both codecs: histories through `RemoteStorage` give the answers of the rules |
//! | `side by side` | histories of Python's and our clients of one server, judged for snapshots and lost updates |
//! | `objects in turns` | objects that Python and our structs change in turns: in one file, and through one server |
//! | `golden objects` | records read as values and written back: what Python loads of them |
//! | `visits` | the example of a Python and a Rust program that change one object at once, with conflicts merged |
//! | `suite` | ZEO 6.2's own tests, with `vellum serve` as their server |
//! | `recorded` | the same conversations with `runzeo` and `vellum serve`: the same frames in the same order |
//! | `config` | `zeo.conf`: what ZConfig with ZEO's schema reads in it, and what we do |
//! | `plone` | a Plone site with pictures and files, on `runzeo` and on `vellum serve` (with `--everything`) |
//! | `findings` | the statements of `docs/findings/filestorage.md` about ZODB still hold |
//!
//! Everything is made from `--seed`, which is printed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use tempfile::TempDir;

use crate::{Outcome, day, number, venv};

mod blob_clients;
mod blob_tools;
mod blobs;
mod btrees;
mod bytes;
mod cache_policies;
mod clients;
mod compressed;
mod config;
mod crash;
mod dice;
mod export;
mod external;
mod findings;
mod forth;
mod index;
mod objects;
mod pack;
mod pickles;
mod plone;
mod python_2;
mod reads;
mod recorded;
mod remote;
mod rules;
mod script;
mod shapes;
mod side;
mod states;
mod storages;
mod suite;
mod traces;
mod trees;
mod undo;
mod visits;
mod zodb;

/// Any reason that keeps a check from succeeding.
type Trouble = Box<dyn std::error::Error>;

/// A check answers with what it has looked at.
type Check = fn(&Ground) -> Result<String, Trouble>;

const CHECKS: [(&str, Check); 34] = [
    ("bytes", bytes::check),
    ("undo", undo::check),
    ("pack", pack::check),
    ("back and forth", forth::check),
    ("reads", reads::check),
    ("pickles", pickles::check),
    ("states", states::check),
    ("btrees", btrees::check),
    ("broken trees", trees::check),
    ("cache policies", cache_policies::check),
    ("traces", traces::check),
    ("btree shapes", shapes::check),
    ("python 2", python_2::check),
    ("compressed", compressed::check),
    ("index", index::check),
    ("export", export::check),
    ("external", external::check),
    ("blob folder", blobs::check),
    ("blob tools", blob_tools::check),
    ("crash files", crash::check),
    ("rules", rules::check),
    ("storages", storages::check),
    ("clients", clients::check),
    ("clients with blobs", blob_clients::check),
    ("remote", remote::check),
    ("side by side", side::check),
    ("objects in turns", objects::turns),
    ("golden objects", objects::golden),
    ("visits", visits::check),
    ("suite", suite::check),
    ("recorded", recorded::check),
    ("config", config::check),
    ("plone", plone::check),
    ("findings", findings::check),
];

/// The checks that take long whatever the number of histories: with `--today` they have their turns.
const SLOW: [&str; 7] = ["cache policies", "btree shapes", "clients", "remote", "visits", "suite", "recorded"];

/// Where a check works, and with what.
struct Ground {
    python: PathBuf,
    folder: TempDir,
    log: PathBuf,
    histories: u64,
    seed: u64,
    /// Also what takes minutes more.
    everything: bool,
    /// Where recorded traces are kept.
    traces: Option<PathBuf>,
}

impl Ground {
    fn zodb(&self) -> std::io::Result<zodb::Zodb> {
        zodb::Zodb::start(&self.python, &self.log)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The codecs of the wire that have their turn today; with `--everything` both.
    fn codecs(&self) -> &'static [&'static str] {
        const CODECS: [&str; 2] = ["pickle", "msgpack"];
        if self.everything { &CODECS } else { &CODECS[day::today() % 2..][..1] }
    }
}

/// Compares the engine with the real ZODB, on the same files
///
/// Sets up ZODB 6.4 in a virtual environment under target/, and compares files and answers.
#[derive(Debug, Args)]
pub struct Peers {
    /// The number of random histories for each check that plays some
    #[arg(long, value_name = "N", default_value = "200", value_parser = number)]
    histories: u64,
    /// The seed of everything random
    #[arg(long, default_value = "1", value_parser = number)]
    seed: u64,
    /// Also run a Plone site, ZEO's long tests, and those that start no server
    #[arg(long)]
    everything: bool,
    /// A folder for the traces that the check `traces` records
    #[arg(long, value_name = "FOLDER")]
    traces: Option<PathBuf>,
    /// Hold this storage to the rules instead, or `all`: docs/findings/ has their names. For those that are slow, a
    /// quarter of the histories is played
    #[arg(long, value_name = "NAME", conflicts_with = "only")]
    storage: Option<String>,
    /// Run only the checks with this text in their names
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Run N of the slow checks, others each day, beside all of the quick ones
    #[arg(long, value_name = "N", value_parser = number, conflicts_with_all = ["only", "storage", "everything"])]
    today: Option<u64>,
}

impl Peers {
    /// Runs the checks, and fails if one of them does.
    pub fn run(self) -> Outcome {
        let Peers { histories, seed, storage, only, everything, traces, today } = self;
        if let Some(storage) = storage {
            return storages::run(&storage, seed, histories);
        }
        let python = venv::python()?;
        let workshop = venv::workshop("peer")?;
        let log = workshop.join("zodb.log");
        let _ = std::fs::remove_file(&log);
        println!("seed {seed}; what ZODB warns of is in {}", log.display());
        let later = later(today);
        if !later.is_empty() {
            println!("other days: {}", later.join(", "));
        }
        let is_wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        let (mut passed, mut failed) = (0, 0);
        for (name, check) in CHECKS.into_iter().filter(|(name, _)| is_wanted(name) && !later.contains(name)) {
            let (python, log, traces) = (python.clone(), log.clone(), traces.clone());
            let folder = TempDir::new_in(&workshop)?;
            let ground = Ground { python, folder, log, histories, seed, everything, traces };
            let started = Instant::now();
            match check(&ground) {
                Ok(what) => {
                    passed += 1;
                    println!("ok   {name}: {what} ({:.1} s)", started.elapsed().as_secs_f64());
                }
                Err(why) => {
                    failed += 1;
                    println!("FAIL {name}: {why}");
                }
            }
        }
        println!("{passed} passed, {failed} failed");
        if failed == 0 { Ok(()) } else { Err("the engine and ZODB differ".into()) }
    }
}

/// The slow checks that have their turn on another day.
fn later(today: Option<u64>) -> Vec<&'static str> {
    let Some(count) = today else { return Vec::new() };
    let now = day::part(SLOW.to_vec(), count);
    SLOW.into_iter().filter(|name| !now.contains(name)).collect()
}

/// Runs one of our scripts with `vellum serve` and a folder for it. It must succeed; the last line that it prints is
/// the answer.
fn python_says(ground: &Ground, script: &str, folder: &Path, args: &[&str]) -> Result<String, Trouble> {
    std::fs::create_dir_all(folder)?;
    let mut command = std::process::Command::new(&ground.python);
    command.arg(venv::script(script)).arg(venv::vellum()?).arg(folder).args(args);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || format!("{}: {said}{told}", output.status))?;
    Ok(said.trim_end().lines().last().unwrap_or_default().to_owned())
}

/// The file's name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a database and all that is kept beside it.
fn clear(path: &Path) {
    for suffix in ["", ".index", ".lock", ".tmp", ".tr0", ".tr1", ".old", ".pack"] {
        let _ = std::fs::remove_file(beside(path, suffix));
    }
}

/// The golden databases that ZODB 6.4 wrote.
fn golden() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let folder = venv::workspace().join("fixtures/golden");
    ["mail", "undo", "unpacked", "packed"].into_iter().map(move |name| (name, folder.join(format!("{name}.fs"))))
}

/// An error unless both engines say the same.
fn same<T: PartialEq + std::fmt::Debug>(what: impl std::fmt::Display, ours: &T, theirs: &T) -> Outcome {
    if ours == theirs {
        return Ok(());
    }
    let short = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
    Err(format!("{what}: we say {}, ZODB says {}", short(ours), short(theirs)).into())
}

/// An error unless two files hold the same bytes; it says where they part.
fn same_files(what: impl std::fmt::Display, ours: &Path, theirs: &Path) -> Outcome {
    let (one, other) = (std::fs::read(ours)?, std::fs::read(theirs)?);
    if one == other {
        return Ok(());
    }
    let at = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let names = (ours.display(), theirs.display());
    let lengths = (one.len(), other.len());
    Err(format!("{what}: {} and {} part at byte {at}; lengths {} and {}", names.0, names.1, lengths.0, lengths.1)
        .into())
}

/// An error of these words unless it holds.
fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

#[cfg(test)]
mod tests {
    use super::{CHECKS, SLOW, later};

    #[test]
    fn slow_checks_are_checks_and_have_their_turns() {
        assert!(SLOW.iter().all(|name| CHECKS.iter().any(|(check, _)| check == name)));
        assert!(later(None).is_empty());
        assert_eq!(later(Some(SLOW.len() as u64)).len(), 0);
        assert!((4..=5).contains(&later(Some(3)).len()));
    }
}
