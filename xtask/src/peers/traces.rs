//! Traces of the real client's cache, and ZEO's file beside that cache.
//!
//! `xtask/peer/traces.py` drives ZEO's client on a mail database, through `vellum serve` and `runzeo`, with a recorder
//! around its cache. Our circular file must then hit and miss as the real one did, load by load.
//!
//! `--traces FOLDER` keeps them, in the compact format; fixtures/traces was made in this way.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use vellum_simulate::policies::{Circular, Rules};
use vellum_simulate::trace::{Event, Trace, read};

use super::cache_policies::packed;
use super::{Ground, Trouble, ensure, python_says};
use crate::venv;

#[derive(Deserialize)]
struct Counted {
    bytes: u64,
    loads: u64,
    hits: u64,
}

#[derive(Deserialize)]
struct Loaded {
    loads: u64,
    hits: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    if !ground.everything && ground.traces.is_none() {
        return Ok("left out, --everything runs it".to_owned());
    }
    let folder = ground.path("traces");
    let said = python_says(ground, "traces.py", &folder, &["--seed", &ground.seed.to_string()])?;
    let counted: BTreeMap<String, Counted> = serde_json::from_str(&said)?;
    let mut shown = Vec::new();
    let mut bytes_kept = 0;
    let mut keep = |name: &str, trace: &Trace| -> Result<(), Trouble> {
        let Some(folder) = &ground.traces else { return Ok(()) };
        let bytes = packed(trace)?;
        bytes_kept += bytes.len();
        let path = folder.join(format!("{name}.vtrace.gz"));
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        Ok(std::fs::write(path, bytes)?)
    };
    for (name, Counted { bytes, loads, hits }) in &counted {
        let trace = read(&std::fs::read(folder.join(format!("{name}.trace")))?)?;
        same_hits(name, &trace, *bytes, *hits)?;
        keep(name, &trace)?;
        shown.push(format!("{name} {hits} of {loads}"));
    }
    ensure(counted.len() == 8, || format!("not every workload was recorded: {said}"))?;
    let (trace, hits, loads) = of_relstorage(ground, &folder)?;
    keep("others/relstorage", &trace)?;
    shown.push(format!("RelStorage {hits} of {loads}, read back"));
    keep("references", &read(&std::fs::read(folder.join("references.vtrace"))?)?)?;
    ensure(bytes_kept < 1_000_000, || format!("the traces have {bytes_kept} bytes"))?;
    Ok(format!("hits of the real cache and of the simulated one, load by load: {}", shown.join(", ")))
}

/// The trace that RelStorage writes itself. As many loads and hits are read of it as a reader of its own finds.
fn of_relstorage(ground: &Ground, folder: &Path) -> Result<(Trace, u64, u64), Trouble> {
    let mut command = Command::new(venv::python_of("relstorage")?);
    command.arg(venv::script("rel_trace.py")).arg(folder).args(["--seed", &ground.seed.to_string()]);
    let output = command.output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let said: Loaded = serde_json::from_slice(&output.stdout)?;
    let trace = read(&std::fs::read(folder.join("relstorage.trace"))?)?;
    let of = |is: fn(&Event) -> bool| trace.records.iter().filter(|record| is(&record.event)).count() as u64;
    let (loads, hits) = (of(|e| matches!(e, Event::Load(_))), of(|e| matches!(e, Event::Load(Some(_)))));
    ensure((loads, hits) == (said.loads, said.hits), || {
        format!("RelStorage's trace: {hits} hits of {loads} loads, and there are {} of {}", said.hits, said.loads)
    })?;
    Ok((trace, hits, loads))
}

/// Plays the cache's own calls, and compares each answer.
fn same_hits(name: &str, trace: &Trace, bytes: u64, hits: u64) -> Result<(), Trouble> {
    let mut file = Circular::with(bytes, Rules::Client);
    let (mut found, mut opened) = (0, 0);
    for (at, record) in trace.records.iter().enumerate() {
        match record.event {
            Event::Open => {
                opened += 1;
                // The reopened file goes on at its first free block, which is not in the trace.
                if opened == 2 {
                    return Ok(());
                }
            }
            Event::Load(real) => {
                let ours = file.load(record.oid, |_, _, _| ());
                ensure(ours == real.is_some(), || {
                    format!("{name}, record {at}, object {:x}: the real cache has it: {}", record.oid, real.is_some())
                })?;
                found += u64::from(ours);
            }
            Event::Store { size, tid, end } => drop(file.store(record.oid, size, tid, end, |_, _, _| ())),
            Event::Invalidate(tid) => drop(file.end(record.oid, tid)),
            Event::Forget => drop(file.forget(record.oid)),
            Event::LoadOld { .. } | Event::References(_) => {}
        }
    }
    ensure(found == hits, || format!("{name}: {found} hits, and the real cache had {hits}"))
}
