//! The policies of `model/simulate` beside libcachesim 0.3.5, and ZEO's file beside `cache_simul`.
//!
//! Both play the same loads. For libcachesim all objects have one size: with sizes the programs differ in many small
//! things, and the ones that matter are known.
//!
//! - W-TinyLFU is compared by libcachesim's definition (`Definition::LibCacheSim`), and not by the paper's, which is in
//!   our tables.
//! - A changed object is another object for libcachesim, which has no changes in its traces.

use std::fmt::Write;
use std::process::Command;

use serde::de::DeserializeOwned;
use vellum_simulate::cache_simul::{Line, play};
use vellum_simulate::policies::{Definition, TinyLfu};
use vellum_simulate::policy::{Kind, NEVER, Policy, Request};
use vellum_simulate::trace::{Trace, read, zeo};
use vellum_simulate::workload::Workload;
use vellum_simulate::{export, trace};

use super::{Ground, Trouble, ensure};
use crate::venv;

const SIZE: u32 = 1000;
const COUNTS: [u64; 4] = [100, 300, 1000, 2000];
const BYTES: [u64; 4] = [100 << 10, 300 << 10, 1 << 20, 3 << 20];

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Misses {
    #[serde(rename = "LRU")]
    lru: Vec<u64>,
    #[serde(rename = "FIFO")]
    fifo: Vec<u64>,
    clock: Vec<u64>,
    sieve: Vec<u64>,
    #[serde(rename = "S3FIFO")]
    s3_fifo: Vec<u64>,
    #[serde(rename = "WTinyLFU")]
    w_tiny_lfu: Vec<u64>,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let python = venv::python_of_caches()?;
    let ask = |args: &[String]| -> Result<Vec<u8>, Trouble> {
        let mut command = Command::new(&python);
        let output = command.arg(venv::script("cache_policies.py")).args(args).output()?;
        ensure(output.status.success(), || format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(output.stdout)
    };
    let (mut compared, mut lines) = (0, 0);
    let mut shown = String::new();
    for (name, trace) in fixtures()? {
        let loads = loads(&Workload::of(&trace));
        let path = ground.path(&format!("{name}.loads"));
        std::fs::write(&path, loads.iter().map(|load| format!("{load}\n")).collect::<String>())?;
        let mut args = vec!["misses".to_owned(), path.display().to_string(), SIZE.to_string()];
        args.extend(COUNTS.map(|count| count.to_string()));
        let theirs: Misses = parse(&ask(&args)?)?;
        for (at, count) in COUNTS.into_iter().enumerate() {
            let bytes = count * u64::from(SIZE);
            let of = |kind: Kind| misses(&loads, &mut *kind.of(bytes, 0));
            let tiny = misses(&loads, &mut TinyLfu::with(bytes, 0, Definition::LibCacheSim));
            let pairs = [
                ("LRU", of(Kind::Lru), theirs.lru[at]),
                ("FIFO", of(Kind::Fifo), theirs.fifo[at]),
                ("CLOCK", of(Kind::Clock), theirs.clock[at]),
                ("SIEVE", of(Kind::Sieve), theirs.sieve[at]),
                ("S3-FIFO", of(Kind::S3fifo), theirs.s3_fifo[at]),
                ("W-TinyLFU", tiny, theirs.w_tiny_lfu[at]),
            ];
            for (policy, ours, theirs) in pairs {
                ensure(ours == theirs, || {
                    format!(
                        "{name}, {policy}, {count} objects: we miss {ours} of {}, libcachesim {theirs}",
                        loads.len()
                    )
                })?;
                compared += 1;
            }
        }

        let path = ground.path(&format!("{name}.trace"));
        let mut bytes = Vec::new();
        zeo::write(&trace, &mut bytes);
        std::fs::write(&path, bytes)?;
        let mut args = vec!["simul".to_owned(), path.display().to_string()];
        args.extend(BYTES.map(|bytes| bytes.to_string()));
        let theirs: Vec<[u64; 5]> = parse(&ask(&args)?)?;
        for (bytes, theirs) in BYTES.into_iter().zip(theirs) {
            let Line { loads, hits, invalidations, writes, evictions } = play(&trace, bytes, 3600);
            let ours = [loads, hits, invalidations, writes, evictions];
            ensure(ours == theirs, || format!("{name}, {bytes} bytes: we count {ours:?}, cache_simul {theirs:?}"))?;
            lines += 1;
        }
        let _ = write!(shown, "{}{name}", if shown.is_empty() { "" } else { ", " });
    }
    ensure(compared > 0 && lines > 0, || "there are no traces".to_owned())?;
    Ok(format!("{compared} counts of misses are those of libcachesim, {lines} lines those of cache_simul, on {shown}"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Trouble> {
    Ok(serde_json::from_slice(bytes)?)
}

/// The traces of the repository.
pub(super) fn fixtures() -> Result<Vec<(String, Trace)>, Trouble> {
    let mut traces = Vec::new();
    for entry in std::fs::read_dir(venv::workspace().join("fixtures/traces"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".vtrace.gz").filter(|name| *name != "references") else { continue };
        traces.push((name.to_owned(), read(&std::fs::read(&path)?)?));
    }
    traces.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(traces)
}

/// The loads, each revision as an object of its own.
fn loads(workload: &Workload) -> Vec<u64> {
    let loads = export::oracle_general(workload);
    let object = |load: &[u8]| load[4..12].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    loads.chunks_exact(export::LOAD_BYTES).map(object).collect()
}

fn misses(loads: &[u64], policy: &mut dyn Policy) -> u64 {
    let mut evicted = Vec::new();
    let mut missed = 0;
    for oid in loads {
        missed += u64::from(!policy.access(Request { oid: *oid, size: SIZE, next: NEVER }, &mut evicted));
    }
    missed
}

/// The trace as gzip, in the compact format.
pub(super) fn packed(trace: &Trace) -> std::io::Result<Vec<u8>> {
    use std::io::Write;
    let mut bytes = Vec::new();
    trace::compact::write(trace, &mut bytes);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&bytes)?;
    gzip.finish()
}
