//! `cargo xtask tables`: the table storage beside FileStorage, ZODB's FileStorage and RelStorage on SQLite.
//!
//! All four get the same mail database and the same work, one after the other, in each round. The best round counts. Each
//! commit is on the disk before it returns: SQLite runs with `synchronous=full`.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::Value;
use vellum_file::{Durability, FileStorage};
use vellum_storage::{CopyOptions, Oid, Pack, PackOptions, Storage, Tid, TidRange, TransactionMeta, Version, copy};
use vellum_table::TableStorage;

use crate::{Outcome, bench, number, venv};

/// Loads, each of another object if there are so many.
const LOADS: usize = 100_000;
/// Threads of the commits that several make.
const THREADS: u64 = 8;
/// Where the oids of new objects begin.
const FIRST_NEW: u64 = 1 << 40;
/// Objects that one transaction changes before the pack.
const CHANGES_EACH: usize = 100;

type Trouble = Box<dyn std::error::Error>;

/// Times the table storage beside FileStorage, ZODB's FileStorage and RelStorage
///
/// All are timed in the same run, on the same mail database, which ZODB makes.
#[derive(Debug, Args)]
pub struct Tables {
    /// The size of the mail database, in messages
    #[arg(long, value_name = "N", default_value = "100000", value_parser = number)]
    messages: u64,
    /// How often everything is measured; the table shows the best round of each row
    #[arg(long, value_name = "N", default_value = "3", value_parser = number)]
    rounds: u64,
    /// Commits of each row of commits
    #[arg(long, value_name = "N", default_value = "2000", value_parser = number)]
    commits: u64,
    /// Measure memory alone, on a database of so many objects
    #[arg(long, value_name = "N", value_parser = number)]
    objects: Option<u64>,
    /// Print the memory of a process that opens FILE and loads the objects of a list.
    #[arg(long, hide = true, num_args = 3, value_names = ["KIND", "FILE", "OIDS"])]
    memory_of: Option<Vec<String>>,
}

/// A storage that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Table,
    File,
    Zodb,
    Relstorage,
}

/// Figures by row.
type Figures = BTreeMap<&'static str, f64>;

/// A row: the key of its figure, its text, and its unit.
const ROWS: [(&str, &str, Unit); 9] = [
    ("copy", "copy all transactions into it", Unit::Seconds),
    ("load", "random loads, after opening", Unit::Seconds),
    ("commit", "small commits, 1 thread", Unit::Seconds),
    ("commit8", "small commits, 8 threads", Unit::Seconds),
    ("pack", "pack, after a tenth of the objects changed", Unit::Seconds),
    ("cut", "cut the file behind what is left", Unit::Seconds),
    ("bytes", "on the disk, after the copy", Unit::Bytes),
    ("bytes_changed", "on the disk, before the pack", Unit::Bytes),
    ("bytes_packed", "on the disk, after the pack", Unit::Bytes),
];

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Bytes,
}

struct Figure(Option<f64>, Unit);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (None, _) => f.pad(""),
            (Some(seconds), Unit::Seconds) => f.pad(&format!("{:.1} ms", seconds * 1e3)),
            (Some(bytes), Unit::Bytes) => f.pad(&format!("{:.1} MB", bytes / 1e6)),
        }
    }
}

impl Tables {
    /// Measures, and prints the table.
    pub fn run(self) -> Outcome {
        if let Some(of) = &self.memory_of {
            let [kind, file, oids] = of.as_slice() else { return Err("three words".into()) };
            return memory_of(Kind::from_str(kind, false)?, Path::new(file), Path::new(oids));
        }
        let folder = venv::workshop("tables")?;
        match self.objects {
            Some(objects) => memory(&folder, objects),
            None => self.rows(&folder),
        }
    }

    fn rows(&self, folder: &Path) -> Outcome {
        let python = venv::python_of("relstorage")?;
        let (_, mail) = bench::mail(self.messages)?;
        let ground = Ground::new(python, mail, folder, self.commits)?;
        let mut best: Vec<Figures> = vec![Figures::new(); Kind::value_variants().len()];
        for round in 1..=self.rounds.max(1) {
            for (kind, best) in Kind::value_variants().iter().zip(&mut best) {
                for (row, figure) in ground.measure(*kind)? {
                    best.entry(row).and_modify(|old| *old = old.min(figure)).or_insert(figure);
                }
                eprintln!("round {round}, {kind:?}: done");
            }
        }
        println!("{} messages, {} loads, {} commits a row\n", self.messages, ground.loads.len(), self.commits);
        println!("{:<44} {:>11} {:>11} {:>11} {:>11} {:>7}", "", "table", "file", "ZODB 6.4", "RelStorage", "ratio");
        for (row, text, unit) in ROWS {
            let of = |kind: Kind| best[kind as usize].get(row).copied();
            let cells = Kind::value_variants().iter().map(|kind| format!("{:>11}", Figure(of(*kind), unit)));
            let ratio = of(Kind::Relstorage).zip(of(Kind::Table)).map(|(peer, ours)| format!("{:.1}", peer / ours));
            println!("{text:<44} {} {:>7}", cells.collect::<Vec<_>>().join(" "), ratio.unwrap_or_default());
        }
        let table = &best[Kind::Table as usize];
        println!("\nratio: RelStorage's figure, divided by that of the table storage (aim: at least 5)");
        if let Some((longest, usual)) = table.get("wait").zip(table.get("usual")) {
            let times = longest / usual;
            println!(
                "longest wait of a commit to tables beside the pack: {:.1} ms, {times:.0} usual commits (aim: at most 20)",
                longest * 1e3
            );
        }
        Ok(())
    }
}

/// What all rows use.
struct Ground {
    python: PathBuf,
    mail: PathBuf,
    folder: PathBuf,
    commits: u64,
    loads: Vec<Oid>,
    changed: Vec<Oid>,
}

impl Ground {
    fn new(python: PathBuf, mail: PathBuf, folder: &Path, commits: u64) -> Result<Ground, Trouble> {
        let storage = FileStorage::open_read_only(&mail)?;
        let mut oids =
            storage.current_records(Oid::ROOT).map(|record| Ok(record?.oid)).collect::<Result<Vec<Oid>, Trouble>>()?;
        shuffle(&mut oids);
        let changed = oids[..oids.len() / 10].to_vec();
        oids.truncate(LOADS);
        let ground = Ground { python, mail, folder: folder.to_owned(), commits, loads: oids, changed };
        write_oids(&ground.folder.join("oids.txt"), &ground.loads)?;
        write_oids(&ground.folder.join("changed.txt"), &ground.changed)?;
        Ok(ground)
    }

    fn measure(&self, kind: Kind) -> Result<Figures, Trouble> {
        let place = tempfile::Builder::new().prefix("tables-").tempdir_in(&self.folder)?;
        match kind {
            Kind::Table => self.ours(place.path(), &TABLES),
            Kind::File => self.ours(place.path(), &FILES),
            Kind::Zodb | Kind::Relstorage => self.theirs(kind, place.path()),
        }
    }

    fn theirs(&self, kind: Kind, place: &Path) -> Result<Figures, Trouble> {
        let printed = peer(
            &self.python,
            kind,
            &self.mail,
            place,
            &self.folder.join("oids.txt"),
            &[
                "--commits".as_ref(),
                self.commits.to_string().as_ref(),
                "--changed".as_ref(),
                self.folder.join("changed.txt").as_ref(),
            ],
        )?;
        let figure = |row: &'static str| Some((row, printed[row].as_f64()?));
        Ok(ROWS.iter().filter_map(|(row, ..)| figure(row)).collect())
    }

    fn ours(&self, place: &Path, engine: &Engine) -> Result<Figures, Trouble> {
        let path = place.join("site");
        let mut figures = Figures::new();
        figures.insert("copy", self.fill(&path, engine)?);
        figures.insert("bytes", bytes_of(place)?);
        let storage = (engine.open)(&path)?;
        figures.insert("load", timed(|| load(storage.as_ref(), &self.loads))?);
        figures.insert("commit", timed(|| commits(storage.as_ref(), FIRST_NEW, self.commits, 1))?);
        let first = FIRST_NEW + self.commits;
        figures.insert("commit8", timed(|| commits(storage.as_ref(), first, self.commits, THREADS))?);
        drop(storage);
        for entry in std::fs::read_dir(place)? {
            std::fs::remove_file(entry?.path())?;
        }
        self.fill(&path, engine)?;
        let storage = (engine.open)(&path)?;
        change(storage.as_ref(), &self.changed)?;
        drop(storage);
        figures.insert("bytes_changed", bytes_of(place)?);
        let storage = (engine.open)(&path)?;
        let pack = || (engine.pack)(storage.as_ref());
        figures.insert("pack", timed(pack)?);
        drop(storage);
        if let Some(cut) = engine.cut {
            figures.insert("cut", timed(|| cut(&path))?);
        }
        figures.insert("bytes_packed", bytes_of(place)?);
        // Once more, with commits beside it.
        let storage = (engine.open)(&path)?;
        change(storage.as_ref(), &self.changed)?;
        let (longest, usual) = wait_beside(storage.as_ref(), engine.pack)?;
        figures.insert("wait", longest);
        figures.insert("usual", usual);
        Ok(figures)
    }

    fn fill(&self, path: &Path, engine: &Engine) -> Result<f64, Trouble> {
        let (from, to) = (FileStorage::open_read_only(&self.mail)?, (engine.create)(path)?);
        timed(|| {
            copy(&from, to.as_ref(), TidRange::ALL, CopyOptions::default(), &mut |_| ())?;
            Ok(())
        })
    }
}

/// One of our storages.
struct Engine {
    create: fn(&Path) -> Result<Box<dyn Storage>, Trouble>,
    open: fn(&Path) -> Result<Box<dyn Storage>, Trouble>,
    pack: fn(&dyn Storage) -> Outcome,
    /// Gives freed space back to the system, if a pack does not.
    cut: Option<fn(&Path) -> Outcome>,
}

const TABLES: Engine = Engine {
    create: |path| Ok(Box::new(TableStorage::create(path)?)),
    open: |path| Ok(Box::new(TableStorage::open(path)?)),
    pack,
    cut: Some(|path| {
        vellum_table::Options::new().compact(path)?;
        Ok(())
    }),
};

const FILES: Engine = Engine {
    create: |path| Ok(Box::new(file_options().create(path)?)),
    open: |path| Ok(Box::new(file_options().open(path)?)),
    pack,
    cut: None,
};

/// As `vellum serve` opens a file.
fn file_options() -> vellum_file::Options {
    vellum_file::Options::new().durability(Durability::Journal)
}

fn pack(storage: &dyn Storage) -> Outcome {
    let packing: &dyn Pack = storage.pack().ok_or("no packing")?;
    packing.pack(Tid::MAX, PackOptions::default().collect(true))?;
    Ok(())
}

fn timed(work: impl FnOnce() -> Outcome) -> Result<f64, Trouble> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

fn load(storage: &dyn Storage, oids: &[Oid]) -> Outcome {
    for oid in oids {
        std::hint::black_box(storage.load(*oid, &Version::TRUNK)?);
    }
    Ok(())
}

/// Commits of one new object each, by so many threads.
fn commits(storage: &dyn Storage, first: u64, count: u64, threads: u64) -> Outcome {
    let some = |thread: u64| -> Result<(), String> {
        (thread..count).step_by(threads as usize).try_for_each(|number| commit(storage, Oid(first + number)))
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || some(thread))).collect();
        for worker in workers {
            worker.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })
}

/// Commits a new object of 200 bytes.
fn commit(storage: &dyn Storage, oid: Oid) -> Result<(), String> {
    let record = Bytes::from([b"\x80\x03cshop\nItem\n.\x80\x03C\xc8", &[b'x'; 200][..], b"."].concat());
    let committed = || {
        let mut draft = storage.begin(TransactionMeta::new())?;
        draft.store(oid, Tid::ZERO, record)?;
        storage.commit(draft)
    };
    committed().map(drop).map_err(|error: vellum_storage::Error| error.to_string())
}

/// Writes the objects again, many in each transaction.
fn change(storage: &dyn Storage, oids: &[Oid]) -> Outcome {
    for some in oids.chunks(CHANGES_EACH) {
        let mut draft = storage.begin(TransactionMeta::new())?;
        for oid in some {
            let loaded = storage.load(*oid, &Version::TRUNK)?;
            draft.store(*oid, loaded.tid, loaded.data)?;
        }
        storage.commit(draft)?;
    }
    Ok(())
}

/// The longest commit beside a pack, and the usual one without.
fn wait_beside(storage: &dyn Storage, pack: fn(&dyn Storage) -> Outcome) -> Result<(f64, f64), Trouble> {
    const USUAL: usize = 500;
    let mut next = 2 * FIRST_NEW;
    let mut one = || -> Result<f64, Trouble> {
        next += 1;
        timed(|| Ok(commit(storage, Oid(next))?))
    };
    let mut usual = (0..USUAL).map(|_| one()).collect::<Result<Vec<f64>, _>>()?;
    usual.sort_unstable_by(f64::total_cmp);
    let longest = std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(storage).map_err(|error| error.to_string()));
        let mut longest = 0.0_f64;
        while !packing.is_finished() {
            longest = longest.max(one()?);
        }
        packing.join().map_err(|_| "a thread panicked")??;
        Ok::<f64, Trouble>(longest)
    })?;
    Ok((longest, usual[USUAL / 2]))
}

/// Memory of a process that has opened a database of so many objects, and has loaded some.
fn memory(folder: &Path, objects: u64) -> Outcome {
    let python = venv::python_of("relstorage")?;
    let source = folder.join(format!("objects-{objects}.fs"));
    if !source.exists() {
        eprintln!("making {}", source.display());
        make(&source, objects)?;
    }
    let mut oids: Vec<Oid> = (0..objects).map(Oid).collect();
    shuffle(&mut oids);
    oids.truncate(LOADS);
    let list = folder.join("oids.txt");
    write_oids(&list, &oids)?;
    println!(
        "{objects} objects, {} of them loaded; memory of the process, and before it opened the database\n",
        oids.len()
    );
    for kind in Kind::value_variants() {
        let place = tempfile::Builder::new().prefix("tables-").tempdir_in(folder)?;
        let [with, before] = match kind {
            Kind::Table | Kind::File => {
                let path = place.path().join("site");
                let engine = if *kind == Kind::Table { &TABLES } else { &FILES };
                let (from, to) = (FileStorage::open_read_only(&source)?, (engine.create)(&path)?);
                copy(&from, to.as_ref(), TidRange::ALL, CopyOptions::default(), &mut |_| ())?;
                drop((from, to));
                let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
                let mut again = Command::new(std::env::current_exe()?);
                again.args(["tables", "--memory-of", &name]).args([&path, &list]);
                numbers(&mut again)?
            }
            Kind::Zodb | Kind::Relstorage => {
                let printed = peer(&python, *kind, &source, place.path(), &list, &["--memory".as_ref()])?;
                ["memory", "before"].map(|name| printed[name].as_f64().unwrap_or_default())
            }
        };
        println!("{:<12} {:>8.1} MiB, {:>6.1} before", format!("{kind:?}"), with / 1048576.0, before / 1048576.0);
    }
    println!("\naim for tables: at most 64 MiB");
    Ok(())
}

/// The command's output: two numbers.
fn numbers(command: &mut Command) -> Result<[f64; 2], Trouble> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let (with, before) = text.trim().split_once(' ').ok_or_else(|| format!("{command:?} prints {text:?}"))?;
    Ok([with.parse()?, before.parse()?])
}

/// In the process of its own.
fn memory_of(kind: Kind, file: &Path, oids: &Path) -> Outcome {
    let text = std::fs::read_to_string(oids)?;
    let oids = text.lines().map(|line| Ok(Oid(u64::from_str_radix(line, 16)?))).collect::<Result<Vec<_>, Trouble>>()?;
    let engine = if kind == Kind::Table { &TABLES } else { &FILES };
    let before = resident()?;
    let storage = (engine.open)(file)?;
    load(storage.as_ref(), &oids)?;
    println!("{} {before}", resident()?);
    Ok(())
}

/// Resident bytes of this process. (Linux alone.)
fn resident() -> Result<u64, Trouble> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

/// A file of so many objects of 200 bytes.
fn make(path: &Path, objects: u64) -> Outcome {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let storage = vellum_file::Options::new().durability(Durability::Relaxed).create(&new)?;
    let record = Bytes::from([b"\x80\x03cshop\nItem\n.\x80\x03C\xc8", &[b'x'; 200][..], b"."].concat());
    for first in (0..objects).step_by(1000) {
        let mut draft = storage.begin(TransactionMeta::new())?;
        for oid in first..objects.min(first + 1000) {
            draft.store(Oid(oid), Tid::ZERO, record.clone())?;
        }
        Storage::commit(&storage, draft)?;
    }
    drop(storage);
    std::fs::rename(new, path)?;
    Ok(())
}

/// What `table_bench.py` prints.
fn peer(
    python: &Path,
    kind: Kind,
    file: &Path,
    place: &Path,
    oids: &Path,
    more: &[&std::ffi::OsStr],
) -> Result<Value, Trouble> {
    let mut command = Command::new(python);
    let name = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    command.arg(venv::script("table_bench.py")).arg(name).arg(file).arg("--dir").arg(place).arg("--oids").arg(oids);
    let output = command.args(more).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn write_oids(path: &Path, oids: &[Oid]) -> Outcome {
    Ok(std::fs::write(path, oids.iter().map(|oid| format!("{oid}\n")).collect::<String>())?)
}

/// The same order at each run.
fn shuffle(oids: &mut [Oid]) {
    let mut dice = 1_u64;
    for end in (1..oids.len()).rev() {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        oids.swap(end, (dice >> 33) as usize % (end + 1));
    }
}

/// Bytes that the files of the database take on the disk: what was never written of a file takes none.
fn bytes_of(folder: &Path) -> Result<f64, Trouble> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let needed = entry.path().extension().is_none_or(|end| !["lock", "old", "tmp"].iter().any(|name| end == *name));
        bytes += if needed { entry.metadata()?.blocks() * 512 } else { 0 };
    }
    Ok(bytes as f64)
}
