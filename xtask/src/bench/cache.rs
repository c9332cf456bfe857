//! The rows of the client cache: beside ZEO's, and beside caches that only hold bytes in memory.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vellum_cache::{CacheFile, Core, Medium, Options, Shape, Words};
use vellum_client::TieredCache;
use vellum_disk::RealDisk;
use vellum_storage::{LoadedAt, Oid, Tid};

use super::rows::Rows;
use super::table::Line;
use super::{Row, Trouble};
use crate::venv;

/// Objects in the cache, bytes of each record, and hits that are timed.
const ENTRIES: u64 = 100_000;
const RECORD_BYTES: usize = 300;
const HITS: usize = 1_000_000;
/// ZEO's hits are slow, so that fewer are timed.
const HITS_OF_ZEO: usize = 200_000;
/// The file that is opened.
const MEGABYTES: u64 = 1024;
const OPENED_ENTRIES: u64 = 1_700_000;
const OPENED_BYTES: usize = 500;
const TID: Tid = Tid(1);

impl Rows<'_> {
    /// A row of the client cache.
    pub fn cache(&self, row: Row) -> Result<Line, Trouble> {
        match row {
            Row::CacheOpen => self.open_cache(),
            Row::CacheHitFile => {
                let path = self.folder.join("hits.cache");
                let cache = open(&path, ENTRIES * 1_000)?;
                fill(cache.core(), ENTRIES, RECORD_BYTES);
                cache.close()?;
                let line = self.hits_of_file(&path);
                std::fs::remove_file(&path)?;
                line
            }
            row => {
                let shape = Shape::of_bytes(ENTRIES * 1_000);
                let core = Core::new(Words::new(shape.segments, shape.segment_bytes), shape, TID);
                fill(&core, ENTRIES, RECORD_BYTES);
                let threads = if row == Row::CacheHit2 { 2 } else { 1 };
                let before = TID.next();
                self.hits(&format!("1000000 hits in memory, threads: {threads}"), threads, |oid| {
                    core.get(Oid(oid), before).is_some_and(|found| found.data.len() == RECORD_BYTES)
                })
            }
        }
    }

    /// A client's cache file with its memory in front of it; and the same with hardly any memory.
    fn hits_of_file(&self, path: &Path) -> Result<Line, Trouble> {
        let before = TID.next();
        let tiers = |memory| {
            let options = Options::of_this_machine(ENTRIES * 1_000);
            TieredCache::open(Arc::new(RealDisk), path, options, memory)
        };
        let is_found = |cache: &TieredCache, oid| cache.get(Oid(oid), before).is_some();
        let cache = tiers(64 << 10)?;
        let alone = self.least(|| timed(1, &keys(), |oid| is_found(&cache, oid)))?;
        cache.end()?;
        let cache = tiers(64 << 20)?;
        // The first hit of each comes from the file.
        (0..ENTRIES).for_each(|oid| _ = is_found(&cache, oid));
        let what = "1000000 hits of a cache file, 64 MiB of memory before it";
        let mut line = self.hits(what, 1, |oid| is_found(&cache, oid))?;
        cache.end()?;
        let second = HITS as f64 / alone.as_secs_f64() / 1e6;
        line.notes.push(format!("with 64 KiB of memory before it: {second:.2} million hits a second"));
        Ok(line)
    }

    fn least(&self, mut task: impl FnMut() -> Result<Duration, Trouble>) -> Result<Duration, Trouble> {
        let mut best = Duration::MAX;
        for _ in 0..self.rounds {
            best = best.min(task()?);
        }
        Ok(best)
    }

    fn hits(&self, what: &str, threads: usize, is_found: impl Fn(u64) -> bool + Sync) -> Result<Line, Trouble> {
        let keys = keys();
        let ours = self.least(|| timed(threads, &keys, &is_found))?;
        let quick = quick_cache::sync::Cache::new(ENTRIES as usize * 2);
        let moka = moka::sync::Cache::new(ENTRIES * 2);
        for oid in 0..ENTRIES {
            let data = Bytes::from(vec![7; RECORD_BYTES]);
            quick.insert(oid, data.clone());
            moka.insert(oid, data);
        }
        let limit = self.least(|| timed(threads, &keys, |oid| quick.get(&oid).is_some()))?;
        let of_moka = self.least(|| timed(threads, &keys, |oid| moka.get(&oid).is_some()))?;
        let peer = self.least(|| self.of_zeo("hits", &self.folder.join("hits.zec"), HITS_OF_ZEO as u64))?;
        let peer = peer * (HITS / HITS_OF_ZEO) as u32;
        let second = |took: Duration| HITS as f64 / took.as_secs_f64() / 1e6;
        let note = format!(
            "{what}: {:.2} million a second; quick_cache {:.2}, moka {:.2}, ZEO's ClientCache {:.2} (on one thread)",
            second(ours),
            second(limit),
            second(of_moka),
            second(peer)
        );
        let limit = Some((limit, "quick_cache"));
        Ok(Line { what: what.to_owned(), ours, peer: Some(peer), limit, notes: vec![note] })
    }

    /// ZEO's time.
    fn of_zeo(&self, what: &str, path: &Path, count: u64) -> Result<Duration, Trouble> {
        let (entries, bytes) = match what {
            "hits" => (ENTRIES, RECORD_BYTES),
            _ => (OPENED_ENTRIES, OPENED_BYTES),
        };
        if what == "hits" {
            let _ = std::fs::remove_file(path);
        }
        let mut command = Command::new(self.python);
        command.arg(venv::script("cache_bench.py")).arg(what).arg(path);
        let output = command.args([entries.to_string(), bytes.to_string(), count.to_string()]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let text = String::from_utf8(output.stdout)?;
        Ok(Duration::from_secs_f64(if what == "fill" { 0.0 } else { text.trim().parse()? }))
    }

    /// A full cache of 1 GB is opened.
    fn open_cache(&self) -> Result<Line, Trouble> {
        let (path, of_zeo) = (self.folder.join("full.cache"), self.folder.join("full.zec"));
        if !of_zeo.exists() {
            self.of_zeo("fill", &of_zeo, MEGABYTES)?;
        }
        let _ = std::fs::remove_file(&path);
        let cache = open(&path, MEGABYTES << 20)?;
        fill(cache.core(), OPENED_ENTRIES, OPENED_BYTES);
        cache.close()?;
        let (mut entries, mut index) = (0, 0);
        let ours = self.least(|| {
            let started = Instant::now();
            let cache = open(&path, MEGABYTES << 20)?;
            let took = started.elapsed();
            (entries, index) = (cache.core().len(), cache.core().index_bytes());
            Ok(took)
        })?;
        let peer = Some(self.least(|| self.of_zeo("open", &of_zeo, MEGABYTES))?);
        let mut buffer = vec![0; 1 << 20];
        let limit = self.least(|| {
            let started = Instant::now();
            let mut file = std::fs::File::open(&path)?;
            while std::io::Read::read(&mut file, &mut buffer)? > 0 {}
            Ok(started.elapsed())
        })?;
        std::fs::remove_file(&path)?;
        let bytes = index as f64 / entries as f64;
        let notes = vec![format!("the opened cache: {entries} states, {bytes:.1} bytes of memory each")];
        let what = "open a full cache file of 1 GB".to_owned();
        Ok(Line { what, ours, peer, limit: Some((limit, "read the file")), notes })
    }
}

fn open(path: &Path, bytes: u64) -> Result<CacheFile, Trouble> {
    let cache = CacheFile::open(&RealDisk, path, &Options::of_this_machine(bytes))?;
    Ok(cache)
}

fn fill<M: Medium>(core: &Core<M>, entries: u64, bytes: usize) {
    core.verify(vellum_cache::Changed::Any, TID);
    for oid in 0..entries {
        core.store(core.ask(), Oid(oid), &LoadedAt { data: vec![7; bytes].into(), tid: TID, next: None });
    }
}

/// Objects in an order of chance.
fn keys() -> Vec<u64> {
    let mut x = 1_u64;
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % ENTRIES
    };
    (0..HITS).map(|_| next()).collect()
}

/// The time in which threads together look up all keys.
fn timed(threads: usize, keys: &[u64], is_hit: impl Fn(u64) -> bool + Sync) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let is_hit = &is_hit;
    let hits: usize = std::thread::scope(|scope| {
        let parts = keys.chunks(keys.len().div_ceil(threads));
        let threads: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().filter(|oid| black_box(is_hit(**oid))).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    let took = started.elapsed();
    if hits < keys.len() { Err(format!("{} misses", keys.len() - hits).into()) } else { Ok(took) }
}
