//! `vellum-prove`: holds a storage to the rules.
//!
//! It is a command of its own, so that the operator's `vellum` needs neither the harness nor the specification.
#![forbid(unsafe_code)]

mod connect;
mod small;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, OpenError, Options};
use vellum_harness::campaign::{Campaign, Report};
use vellum_harness::compressed::Plainly;
use vellum_harness::coverage::{Corner, Coverage};
use vellum_harness::hosted::{Hosted, Merger, Opening};
use vellum_harness::pipe::Pipe;
use vellum_harness::small::Bound;
use vellum_harness::subject::{Can, Limited, Subject};
use vellum_harness::{adapters, concurrent, crash, run, script};
use vellum_storage::{Compression, Error, ManualClock, MemoryStorage, Overlay, Resolver, Storage};
use vellum_terminal::people::count;
use vellum_terminal::{Failure, Meter, Out, Outcome, Run, output};

/// Check a storage against the rules: random histories, with every answer compared
#[derive(Parser)]
#[command(name = "vellum-prove", version)]
#[command(after_help = "\
Examples:
  vellum-prove --cases 10000 --seed 7
  vellum-prove --peer zodb --cases 1000 --keep-going
  vellum-prove --peer-command 'my-storage --in-memory' --cases 1000
  vellum-prove --connect 127.0.0.1:8100 --cases 20
  vellum-prove --script found.script
  vellum-prove --crashes --cases 100
  vellum-prove --threads 4 --cases 100
  vellum-prove --exhaustive minutes --storage memory

Each case is a history of random steps: transactions side by side, conflicts,
undos, versions, packs, reopenings, as far as the storage says that it can do
them. After each step every answer is compared with what the specification
says. A difference is shrunk to the fewest steps, and shown as a script that
--script plays again. docs/semantics.md has the rules, docs/peers.md tells how
a storage in another language is driven.

With --connect the histories go to a server of ZEO's protocol, after all that
is there, with tids of the future and oids that nobody has: give it a server
that can be thrown away afterwards.

With --exhaustive there is no chance: two objects, a few transactions, and
every history of them is played. A line for each small world says how many
histories, how many different states, and how long it took. Together with
--crashes, the power is cut in every operation of the disk of each step.

At the end there is a table of how often each rule was exercised. In a run of
3,000 cases or more, a rule that never was is a failure too.

The exit code is 0 if the storage keeps the rules, 1 if it does not.")]
struct Prove {
    /// The number of histories
    #[arg(long, value_name = "N", default_value_t = 1000)]
    cases: u64,
    /// The seed of all random choices: the same seed gives the same run
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The number of the first case, to play one again
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Steps of a history
    #[arg(long, value_name = "N", default_value_t = 30)]
    steps: usize,
    /// One of this project's storages
    #[arg(long, value_enum, default_value_t = Own::File)]
    storage: Own,
    /// A storage that comes with an adapter
    #[arg(long, value_name = "NAME", value_parser = known(), conflicts_with = "storage")]
    peer: Option<String>,
    /// A program that speaks the protocol of docs/peers.md, with its arguments
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["storage", "peer"])]
    peer_command: Option<String>,
    /// A ZEO server, whose storage gets all the histories: host and port, or the path of a Unix socket
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["storage", "peer", "peer_command", "jobs"])]
    connect: Option<String>,
    /// For `--peer`: the Python that has the storage
    #[arg(long, value_name = "PYTHON", env = "VELLUM_PEER_PYTHON", hide_env_values = true, default_value = "python3")]
    python: String,
    /// For `--peer`: do not skip its known differences (docs/findings/)
    #[arg(long)]
    raw: bool,
    /// Capabilities of the storage to leave out
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    without: Vec<String>,
    /// Continue after a difference, and show one of each kind
    #[arg(long)]
    keep_going: bool,
    /// Histories that may be played to make a difference short
    #[arg(long, value_name = "N", default_value_t = SHRINK_BUDGET)]
    shrink: usize,
    /// The number of storages to drive at the same time (default: the number of cores)
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Cut the power in every operation of the disk, and check the state after it
    #[arg(long, conflicts_with_all = ["peer", "peer_command", "connect", "script", "keep_going"])]
    crashes: bool,
    /// Play every history of small worlds: some seconds, some minutes, or a night
    #[arg(long, value_enum, value_name = "SIZE", num_args = 0..=1, default_missing_value = "minutes")]
    #[arg(conflicts_with_all = ["script", "threads", "keep_going", "connect"])]
    exhaustive: Option<small::Size>,
    /// With --exhaustive: this bound, as `transactions=2 changes=1 versions`, and not the worlds of that size
    #[arg(long, value_name = "WORDS", requires = "exhaustive")]
    bound: Option<Bound>,
    /// The number of threads that run at once, in an order that the machine decides
    #[arg(long, value_name = "N", conflicts_with_all = ["peer", "peer_command", "connect", "script", "keep_going", "crashes"])]
    threads: Option<u64>,
    /// With --threads: the number of packs that run beside them; by default none and 5 by turns
    #[arg(long, value_name = "N", requires = "threads")]
    packs: Option<u64>,
    /// Play this script, and nothing else
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// A folder for the scripts of differences, one file each
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Own {
    /// FileStorage, on a simulated disk
    File,
    /// The same with one sync a commit, and records that wait on disk
    FileRelaxed,
    /// The same with a journal
    FileJournal,
    /// TableStorage, on a simulated disk
    Table,
    /// The same, history-free, with a grace of two minutes
    HistoryFree,
    /// The same without a grace
    HistoryFreeAtOnce,
    /// The storage in memory
    Memory,
    /// A storage in memory above FileStorage
    Overlay,
    /// FileStorage, with compressed records
    Compressed,
    /// The specification itself
    Rules,
}

/// The names of the adapters.
fn known() -> PossibleValuesParser {
    adapters::ALL.iter().map(|adapter| PossibleValue::new(adapter.name).help(adapter.about)).into()
}

/// The number of cases from which on a corner without a hit is a failure.
const ENOUGH: u64 = 3000;
/// Operations of a history that are cut, drawn from all of them. The tests cut as many, so that their failures are
/// found here as well.
const CUTS_MAX: usize = 40;
/// Histories that may be played to make one shorter.
const SHRINK_BUDGET: usize = 3000;

#[derive(Serialize)]
struct Answer<'a> {
    storage: &'a str,
    can: Can,
    seed: u64,
    histories: u64,
    steps: u64,
    answers: u64,
    seconds: f64,
    histories_a_minute_a_core: f64,
    corners: Vec<JsonCorner>,
    found: Vec<JsonFound>,
}

#[derive(Serialize)]
struct JsonCorner {
    rule: &'static str,
    what: &'static str,
    times: u64,
    reachable: bool,
}

#[derive(Serialize)]
struct JsonFound {
    case: u64,
    times: u64,
    kind: String,
    script: String,
}

const NAME: &str = "vellum-prove";

fn main() -> ExitCode {
    let prove = Prove::parse();
    output::run(NAME, |out| prove.run(out))
}

impl Prove {
    fn run(self, out: &mut Out) -> Run {
        if self.exhaustive.is_some() {
            return small::run(&self, out);
        }
        if self.crashes {
            return self.crashes(out);
        }
        if let Some(threads) = self.threads {
            return self.threads(out, threads);
        }
        let without = self.without.iter().try_fold(Can::default(), |can, word| can.with(word));
        let without = without.map_err(Failure::Message)?;
        let adapter = Adapter::new(&self)?;
        let make = || -> Result<Box<dyn Subject>, String> {
            Ok(Box::new(Limited { subject: adapter.subject(&self)?, without }))
        };
        let mut first = make().map_err(Failure::Message)?;
        if let Some(path) = &self.script {
            return play(&mut *first, path, out);
        }
        let (name, can) = (first.name(), first.can());
        drop(first);
        let campaign = Campaign {
            seed: self.seed,
            first: self.first,
            cases: self.cases,
            steps: self.steps,
            jobs: match (&self.connect, self.jobs) {
                // All histories are in one storage, one after the other.
                (Some(_), _) => 1,
                (None, Some(jobs)) => jobs,
                (None, None) => std::thread::available_parallelism().map_or(1, usize::from),
            },
            keep_going: self.keep_going,
            shrink_budget: self.shrink,
        };
        let meter = Meter::new("playing histories");
        let report = campaign.run(&make, &|done| meter.update(done, self.cases)).map_err(Failure::Message)?;
        drop(meter);
        if let Some(folder) = &self.save {
            save(folder, &report)?;
        }
        self.show(out, &name, can, &report)
    }

    /// The storage on a simulated disk, as a crash tries it.
    fn on_disk(&self) -> Run<crash::Tried> {
        let file = |name: &str, durability, promise| {
            let opener = move |disk: &SimDisk, opening: Opening| open(disk, durability, u64::MAX, opening);
            crash::Tried {
                name: name.to_owned(),
                can: Can { counts: false, ..Can::EVERYTHING },
                promise,
                opener: Arc::new(opener),
            }
        };
        match self.storage {
            Own::File => Ok(file("FileStorage", Durability::Full, crash::Promise::Whole)),
            Own::FileRelaxed => Ok(file("FileStorage, relaxed", Durability::Relaxed, crash::Promise::Holes)),
            Own::FileJournal => Ok(file("FileStorage, journal", Durability::Journal, crash::Promise::Whole)),
            Own::Table => Ok(in_tables(TABLE)),
            Own::HistoryFree => Ok(in_tables(forgetting(120))),
            Own::HistoryFreeAtOnce => Ok(in_tables(forgetting(0))),
            Own::Memory | Own::Overlay | Own::Compressed | Own::Rules => {
                Err(Failure::Message("a storage in memory does not survive a crash".to_owned()))
            }
        }
    }

    fn crashes(&self, out: &mut Out) -> Run {
        let tried = self.on_disk()?;
        let name = &tried.name;
        let (seed, first, cases, steps) = (self.seed, self.first, self.cases, self.steps);
        let plan = crash::Plan { seed, first, cases, steps, cuts_max: CUTS_MAX, go_on: 4 };
        let meter = Meter::new("cutting the power");
        let result = plan.run(&tried, &mut |done| meter.update(done, self.cases));
        drop(meter);
        match result {
            Ok(report) => writeln!(out, "{name}, seed {seed}\n{report}")?,
            Err(failure) => {
                writeln!(out, "{failure}")?;
                return Ok(Outcome::Problems);
            }
        }
        Ok(Outcome::Fine)
    }

    fn threads(&self, out: &mut Out, threads: u64) -> Run {
        let mut total = concurrent::Report::default();
        let meter = Meter::new("many threads");
        for case in 0..self.cases {
            let opening =
                Opening { fresh: true, read_only: false, clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)) };
            let (storage, can): (Box<dyn Storage>, _) = match self.storage {
                Own::Memory => {
                    (Box::new(MemoryStorage::with("memory", opening.clock, Arc::new(Merger))), Hosted::memory().can())
                }
                Own::Rules => return Err(Failure::Message("the specification has no use for threads".to_owned())),
                _ => {
                    let tried = self.on_disk()?;
                    ((tried.opener)(&SimDisk::new(case), opening)?, tried.can)
                }
            };
            // Half of the cases have no packs: without packs more answers are checked.
            let packs = self.packs.unwrap_or(case % 2 * 5);
            // Beside a pack, commits forget nothing: the explanation does not know that.
            let packs = if can.forgets.is_some() { 0 } else { packs };
            let seed = self.seed.wrapping_add(case);
            let plan = concurrent::Plan { seed, threads, transactions: 40, objects: 4, packs };
            match concurrent::run(&*storage, can, &plan) {
                Ok(report) => total.add(&report),
                Err(failure) => {
                    writeln!(out, "{failure}")?;
                    return Ok(Outcome::Problems);
                }
            }
            meter.update(case + 1, self.cases);
        }
        drop(meter);
        writeln!(out, "{total}")?;
        Ok(Outcome::Fine)
    }

    fn show(&self, out: &mut Out, name: &str, can: Can, report: &Report) -> Run {
        let coverage = &report.coverage;
        let missing = coverage.missing(can);
        if self.json {
            out.json(&self.answer(name, can, report))?;
        } else {
            writeln!(out, "{name}, seed {}", self.seed)?;
            writeln!(out, "{}", coverage.table(can))?;
            let (histories, steps, answers) = (coverage.histories, coverage.steps, coverage.answers);
            writeln!(out, "{} histories, {} steps that did something", count(histories), count(steps))?;
            writeln!(out, "{} different answers expected, each compared after every step", count(answers))?;
            let seconds = report.elapsed.as_secs_f64();
            writeln!(out, "{seconds:.1} s: {} histories a minute a core", count(report.rate as u64))?;
            for found in &report.found {
                let times = if self.keep_going { format!(", {} of this kind", found.times) } else { String::new() };
                writeln!(out, "\nA difference, in case {}{times}:\n\n{}", found.case, found.difference)?;
            }
        }
        if coverage.histories >= ENOUGH && !missing.is_empty() {
            for corner in &missing {
                output::say(NAME, &format!("never reached: rule {}, {}", corner.rule(), corner.what()));
            }
            return Ok(Outcome::Problems);
        }
        Ok(if report.found.is_empty() { Outcome::Fine } else { Outcome::Problems })
    }

    fn answer<'a>(&self, name: &'a str, can: Can, report: &Report) -> Answer<'a> {
        let coverage = &report.coverage;
        let corner = |&corner: &Corner| JsonCorner {
            rule: corner.rule(),
            what: corner.what(),
            times: coverage.count(corner),
            reachable: can.covers(corner.needs()),
        };
        let found = |found: &vellum_harness::campaign::Found| JsonFound {
            case: found.case,
            times: found.times,
            kind: found.kind.clone(),
            script: found.difference.to_string(),
        };
        Answer {
            storage: name,
            can,
            seed: self.seed,
            histories: coverage.histories,
            steps: coverage.steps,
            answers: coverage.answers,
            seconds: report.elapsed.as_secs_f64(),
            histories_a_minute_a_core: report.rate,
            corners: Corner::ALL.iter().map(corner).collect(),
            found: report.found.iter().map(found).collect(),
        }
    }
}

fn play(subject: &mut dyn Subject, path: &Path, out: &mut Out) -> Run {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::Message(format!("{}: {e}", path.display())))?;
    let steps = script::parse(&text).map_err(|e| Failure::Message(format!("{}, {e}", path.display())))?;
    match run::play(subject, &steps, &mut Coverage::default()) {
        Ok(_) => {
            writeln!(out, "{}: {} keeps the rules", path.display(), subject.name())?;
            Ok(Outcome::Fine)
        }
        Err(difference) => {
            writeln!(out, "{difference}")?;
            Ok(Outcome::Problems)
        }
    }
}

fn save(folder: &Path, report: &Report) -> Run<()> {
    let failed = |e: std::io::Error| Failure::Message(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    for found in &report.found {
        let text =
            format!("# case {}, {} of this kind: {}\n{}\n", found.case, found.times, found.kind, found.difference);
        std::fs::write(folder.join(format!("case-{}.script", found.case)), text).map_err(failed)?;
    }
    Ok(())
}

/// The program at the other end of a pipe, if there is one, and the folder with our adapters.
struct Adapter {
    command: Option<Vec<String>>,
    _folder: Option<tempfile::TempDir>,
}

impl Adapter {
    fn new(prove: &Prove) -> Run<Adapter> {
        if let Some(command) = &prove.peer_command {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if words.is_empty() {
                return Err(Failure::Message("--peer-command names no program".to_owned()));
            }
            return Ok(Adapter { command: Some(words), _folder: None });
        }
        let Some(peer) = prove.peer.as_deref().and_then(adapters::named) else {
            return Ok(Adapter { command: None, _folder: None });
        };
        let failed = |e: std::io::Error| Failure::Message(format!("writing the adapters to a temporary folder: {e}"));
        let folder = tempfile::TempDir::new().map_err(failed)?;
        adapters::write_to(folder.path()).map_err(failed)?;
        // The operator's command is beside this one, if both were built.
        let beside =
            std::env::current_exe().ok().map(|path| path.with_file_name("vellum")).filter(|path| path.exists());
        let vellum = beside.map_or_else(|| "vellum".to_owned(), |path| path.display().to_string());
        let mut command = vec![prove.python.clone()];
        command.extend(peer.arguments(folder.path(), &vellum, prove.raw));
        Ok(Adapter { command: Some(command), _folder: Some(folder) })
    }

    fn subject(&self, prove: &Prove) -> Result<Box<dyn Subject>, String> {
        if let Some(address) = &prove.connect {
            return connect::subject(address);
        }
        if let Some(command) = &self.command {
            return Ok(Box::new(Pipe::start(&command[0], &command[1..])?));
        }
        Ok(Box::new(match prove.storage {
            Own::Compressed => return Ok(Box::new(compressed())),
            Own::Overlay => overlay(),
            Own::File => file("FileStorage", Durability::Full, u64::MAX),
            Own::FileRelaxed => file("FileStorage, relaxed", Durability::Relaxed, 1),
            Own::FileJournal => file("FileStorage, journal", Durability::Journal, 200),
            Own::Table => table(TABLE),
            Own::HistoryFree => table(forgetting(120)),
            Own::HistoryFreeAtOnce => table(forgetting(0)),
            Own::Memory => Hosted::memory(),
            Own::Rules => Hosted::rules(),
        }))
    }
}

/// The capabilities of TableStorage.
const TABLE: Can = Can::EVERYTHING;

/// Those of a history-free one.
fn forgetting(seconds: u64) -> Can {
    Can { undo: false, forgets: Some(seconds), ..TABLE }
}

/// TableStorage on the disk that a crash tries.
fn in_tables(can: Can) -> crash::Tried {
    let opener = move |disk: &SimDisk, opening: Opening| open_table(disk, can, opening);
    let (name, promise) = ("TableStorage".to_owned(), crash::Promise::Whole);
    crash::Tried { name, can, promise, opener: Arc::new(opener) }
}

/// TableStorage on a simulated disk. A pack removes few rows in a step.
fn table(can: Can) -> Hosted {
    let mut disk = SimDisk::new(0);
    Hosted::new("TableStorage", can, move |opening: Opening| {
        if opening.fresh {
            disk = SimDisk::new(0);
        }
        open_table(&disk, can, opening)
    })
}

/// Opens the database of tables as the harness wants it, and checks each table against the others.
fn open_table(disk: &SimDisk, can: Can, opening: Opening) -> Result<Box<dyn Storage>, Error> {
    let options = vellum_table::Options::new().disk(Arc::new(disk.clone())).clock(opening.clock);
    let options =
        options.resolver(Arc::new(Merger)).threads(1).step_rows(2).cache_bytes(1 << 20).blobs("site.vellum.blobs");
    let options = match can.forgets {
        Some(seconds) => options.history_free(true).grace(Duration::from_secs(seconds)),
        None => options,
    };
    let path = "site.vellum";
    let opened = if opening.read_only { options.read_only().open(path) } else { options.open_or_create(path) };
    let other = |what: String| Error::io(path, "opening it", std::io::Error::other(what));
    let storage = opened.map_err(|error| match error {
        vellum_table::OpenError::Storage(error) => error,
        refused => other(refused.to_string()),
    })?;
    let mut problems = Vec::new();
    storage.check(&mut |problem| problems.push(problem.to_string()))?;
    if problems.is_empty() { Ok(Box::new(storage)) } else { Err(other(problems.join("; "))) }
}

/// FileStorage on a simulated disk. Every other opening finds no saved index.
fn file(name: &str, durability: Durability, spill_after: u64) -> Hosted {
    let mut disk = SimDisk::new(0);
    let mut openings = 0;
    Hosted::new(name, Can { counts: false, ..Can::EVERYTHING }, move |opening: Opening| {
        if opening.fresh {
            (disk, openings) = (SimDisk::new(0), 0);
        }
        openings += 1;
        if openings % 2 == 0 {
            let _ = disk.remove(Path::new("Data.fs.index"));
        }
        open(&disk, durability, spill_after, opening)
    })
}

/// An overlay on FileStorage. Whenever it is opened again, there is one more above the former one, with its own storage
/// in memory for the changes; every third time the same parts are put together.
fn overlay() -> Hosted {
    type Parts = (Arc<dyn Storage>, Arc<dyn Storage>);
    let (mut parts, mut openings): (Option<Parts>, u64) = (None, 0);
    let can = Can::EVERYTHING.without(Can {
        read_only: true,
        pack: true,
        collect: true,
        counts: true,
        dangling: true,
        untold: true,
        ..Can::default()
    });
    Hosted::new("an overlay on FileStorage", can, move |opening: Opening| {
        let clock = Arc::clone(&opening.clock);
        let over = |base, changes| Overlay::with(base, changes, clock.clone(), Arc::new(Merger));
        let memory = || Arc::new(MemoryStorage::with("changes", clock.clone(), Arc::new(Merger))) as Arc<dyn Storage>;
        openings = if opening.fresh { 0 } else { openings + 1 };
        let (base, changes) = match parts.take() {
            Some(parts) if !opening.fresh && openings % 3 == 0 => parts,
            Some((base, changes)) if !opening.fresh => (Arc::new(over(base, changes)?) as Arc<dyn Storage>, memory()),
            _ => (open(&SimDisk::new(0), Durability::Full, u64::MAX, opening.clone())?.into(), memory()),
        };
        parts = Some((Arc::clone(&base), Arc::clone(&changes)));
        Ok(Box::new(over(base, changes)?))
    })
}

/// FileStorage under the layer that compresses records.
fn compressed() -> Plainly {
    let mut disk = SimDisk::new(0);
    Plainly::new(
        "FileStorage, compressed",
        Can { counts: false, ..Can::EVERYTHING },
        Compression::On,
        move |opening, resolver| {
            if opening.fresh {
                disk = SimDisk::new(0);
            }
            Ok(open_with(&disk, Durability::Full, u64::MAX, opening, resolver)?.into())
        },
    )
}

const DATA: &str = "Data.fs";

/// Opens with one thread, so that the operations of the disk come in the same order each time.
fn open(disk: &SimDisk, durability: Durability, spill: u64, opening: Opening) -> Result<Box<dyn Storage>, Error> {
    open_with(disk, durability, spill, opening, Arc::new(Merger))
}

/// The same with another resolver.
fn open_with(
    disk: &SimDisk,
    durability: Durability,
    spill: u64,
    opening: Opening,
    resolver: Arc<dyn Resolver>,
) -> Result<Box<dyn Storage>, Error> {
    let options = Options::new().disk(Arc::new(disk.clone())).clock(opening.clock).resolver(resolver);
    let options = options.blobs("blobs");
    let options = options.durability(durability).spill_after(spill).threads(1);
    // So small that a history goes round in it.
    let options = options.journal_bytes(36 << 10);
    let opened = if opening.read_only { options.read_only().open(DATA) } else { options.open_or_create(DATA) };
    match opened {
        Ok(storage) => Ok(Box::new(storage)),
        Err(OpenError::Storage(error)) => Err(error),
        Err(other) => Err(Error::io(DATA, "opening it", std::io::Error::other(other.to_string()))),
    }
}
