//! Several processes share a cache file, and are killed at random. Each hears of transactions at its own pace, and
//! holds every answer of the cache to the truth.
//!
//! There is no server: the history is a function of the tid, and the last tid is in a file that all processes count up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use vellum_cache::{Changed, Options};
use vellum_client::TieredCache;
use vellum_disk::RealDisk;
use vellum_harness::dice::{Dice, Seed};
use vellum_storage::{LoadedAt, Oid, Tid};

const OBJECTS: u64 = 40;
/// A process writes a line after so many steps.
const STEPS: u64 = 100;
/// The parent's message to a child: where, and with which dice.
const FOLDER: &str = "VELLUM_TEST_FOLDER";
const SEED: &str = "VELLUM_TEST_SEED";

/// The objects that a transaction changed. The first one made all.
fn changed(tid: u64) -> Vec<Oid> {
    match tid {
        1 => (0..OBJECTS).map(Oid).collect(),
        _ => vec![Oid(Seed(tid).roll(OBJECTS)), Oid(Seed(tid + (1 << 40)).roll(OBJECTS))],
    }
}

fn data(oid: Oid, tid: u64) -> Vec<u8> {
    let size = Seed(oid.0 << 32 | tid).roll(300) as usize + 8;
    format!("{}-{tid}-", oid.0).into_bytes().into_iter().cycle().take(size).collect()
}

/// The revision just before a moment, at a server whose last transaction is `last`.
fn truth(oid: Oid, before: u64, last: u64) -> LoadedAt {
    let tid = (1..before).rev().find(|tid| changed(*tid).contains(&oid)).expect("the first transaction made it");
    let next = (before..=last).find(|tid| changed(*tid).contains(&oid)).map(Tid);
    LoadedAt { data: data(oid, tid).into(), tid: Tid(tid), next }
}

/// The last transaction, which all processes know of in the end.
struct Now(File);

impl Now {
    fn open(folder: &Path) -> Now {
        let path = folder.join("now");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        Now(file)
    }

    fn get(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_at(&mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes).max(1)
    }

    fn commit(&self) {
        self.0.lock().unwrap();
        self.0.write_all_at(&(self.get() + 1).to_le_bytes(), 0).unwrap();
        self.0.unlock().unwrap();
    }
}

/// A process with the cache.
struct Process {
    cache: TieredCache,
    now: Now,
    dice: Seed,
    hits: u64,
    misses: u64,
}

impl Process {
    fn hear(&mut self) {
        let next = self.cache.head().0 + 1;
        if next <= self.now.get() {
            self.cache.invalidate(Tid(next), &changed(next));
        }
    }

    /// It was away, and is told of all changes since.
    fn come_back(&mut self) {
        let (head, last) = (self.cache.head().0, self.now.get());
        let oids: Vec<Oid> = (head + 1..=last).flat_map(changed).collect();
        let is_known = head > 0 && self.dice.roll(3) > 0;
        self.cache.verify(if is_known { Changed::Objects(&oids) } else { Changed::Any }, Tid(last));
    }

    fn load(&mut self) {
        let oid = Oid(self.dice.roll(OBJECTS));
        let head = self.cache.head().0;
        let before = if self.dice.roll(4) == 0 { head + 1 - self.dice.roll(head.min(20)) } else { head + 1 };
        let Some(found) = self.cache.get(oid, Tid(before)) else {
            self.misses += 1;
            let (asked, last) = (self.cache.ask(), self.now.get());
            let answer = truth(oid, before, last);
            if self.dice.roll(3) == 0 {
                self.hear();
            }
            return self.cache.store(asked, oid, &answer);
        };
        self.hits += 1;
        let right = truth(oid, before, self.now.get());
        let is_right = (found.tid, &found.data) == (right.tid, &right.data)
            && (found.next == right.next || (found.next.is_none() && right.next.is_some_and(|next| next.0 > head)));
        assert!(is_right, "{oid} before {before}, of which {head} is known: {:?} to {:?}", found.tid, found.next);
    }

    fn step(&mut self) {
        match self.dice.roll(40) {
            0 => self.now.commit(),
            1..6 => self.hear(),
            6 => self.come_back(),
            _ => self.load(),
        }
    }
}

/// The child: it goes on until it is killed. In an ordinary run of the tests it does nothing.
#[test]
fn a_process() {
    let (Ok(folder), Ok(seed)) = (std::env::var(FOLDER), std::env::var(SEED)) else { return };
    let folder = Path::new(&folder);
    let options = Options { changes: 50, ..Options::of_this_machine(64 << 10) };
    let cache = TieredCache::open(Arc::new(RealDisk), &folder.join("client.cache"), options, 4 << 10).unwrap();
    let mut process = Process { cache, now: Now::open(folder), dice: Seed(seed.parse().unwrap()), hits: 0, misses: 0 };
    process.come_back();
    let was_owner = process.cache.is_owner();
    loop {
        (0..STEPS).for_each(|_| process.step());
        let Process { cache, hits, misses, .. } = &process;
        println!("\n#{} {} {hits} {misses}", u8::from(was_owner), u8::from(cache.is_owner()));
    }
}

fn begin(folder: &Path, seed: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::a_process", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[derive(Debug, Default)]
struct Total {
    owners_hits: u64,
    guests_hits: u64,
    took_over: u64,
    killed: u64,
}

#[test]
fn processes_that_share_a_file_and_are_killed_read_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Seed(1);
    let mut children: Vec<_> = (0..3).map(|seed| begin(folder.path(), seed)).collect();
    let mut total = Total::default();
    let turns = std::env::var("VELLUM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150) * 4;
    for turn in 0..turns {
        let n = dice.roll(3) as usize;
        let (child, out) = &mut children[n];
        let line = out.lines().map_while(Result::ok).find(|line| line.starts_with('#'));
        let Some(line) = line else { panic!("a process has failed: {:?}", child.wait()) };
        if dice.roll(8) == 0 {
            child.kill().unwrap();
            child.wait().unwrap();
            total.killed += 1;
            let numbers: Vec<u64> = line[1..].split(' ').map(|number| number.parse().unwrap()).collect();
            match numbers[..] {
                [1, 1, hits, _] => total.owners_hits += hits,
                [0, 0, hits, _] => total.guests_hits += hits,
                _ => total.took_over += 1,
            }
            children[n] = begin(folder.path(), turn + 10);
        }
    }
    for (mut child, _) in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!("{total:?}");
    let _ = std::io::stdout().flush();
    let Total { owners_hits, guests_hits, took_over, killed } = total;
    assert!(
        owners_hits + took_over > 1 && guests_hits > 0 && took_over > 0 && killed > 30,
        "the roles were not all played"
    );
}
