//! Resident memory at 1,000,000 small objects.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::CACHE_BYTES;
use crate::measure::{child, mb, on_disk_mb, remove, status_mib};
use crate::speed::{commits, loads};
use crate::stores::open;
use crate::workload::{Length, fill};

const OBJECTS: u64 = 1_000_000;

/// One process fills the store, and another uses it.
pub fn memory(name: &str, dir: &Path) {
    for what in ["memory-fill", "memory-use"] {
        child(&[what, name, &dir.display().to_string()]);
    }
    remove(&dir.join(name));
}

pub fn memory_fill(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let s = open(name, &path, CACHE_BYTES).unwrap();
    let start = Instant::now();
    let bytes = fill(&*s, OBJECTS, Length(60, 140));
    s.settle();
    println!(
        "{name:<12} 1,000,000 objects: {:.0} MB of data, {:.0} MB on disk, loaded in {:.1} s; resident at most {:.0} MiB while loading",
        mb(bytes),
        on_disk_mb(&path),
        start.elapsed().as_secs_f64(),
        status_mib("VmHWM")
    );
}
pub fn memory_use(name: &str, dir: &Path) {
    let path = dir.join(name);
    let before = status_mib("VmRSS");
    let start = Instant::now();
    let s = open(name, &path, CACHE_BYTES).unwrap();
    let opened = start.elapsed();
    let at_open = status_mib("VmRSS");
    let per_s = loads(&*s, OBJECTS, OBJECTS, 1);
    let (rss, anon, file) = (status_mib("VmRSS"), status_mib("RssAnon"), status_mib("RssFile"));
    let (mut tid, mut id) = (10_000_000, 10_000_000);
    commits(&|ops| s.apply(ops).unwrap(), &mut tid, &mut id, 8, Duration::from_secs(3));
    println!(
        "{name:<12} resident: start {before:.0} MiB, opened in {:.1} ms {at_open:.0} MiB, after 1,000,000 random loads ({per_s:.0}/s) {rss:.0} MiB (own {anon:.0}, mapped file {file:.0}), after 3 s of commits own {:.0} MiB, at most {:.0} MiB",
        opened.as_secs_f64() * 1e3,
        status_mib("RssAnon"),
        status_mib("VmHWM")
    );
}
