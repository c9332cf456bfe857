//! What a pack takes in memory: packs FILE.fs to now, with collection, and prints a line of JSON.
//!
//! A process of its own, for here every allocation is counted, which costs time that nobody else should have measured.
//! Where memory grows by moving, the old place and the new one count both. `peak` is how much more there was at most than
//! before the pack, of what was asked for; `resident` the same as the system sees it (Linux alone).
#![forbid(unsafe_code)]

use peak_alloc::PeakAlloc;
use vellum_file::{FileStorage, Packing, Unwatched};
use vellum_storage::Tid;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("pack-memory FILE.fs")?;
    let storage = FileStorage::open(&path)?;
    let objects = storage.object_count();
    // From here on the system's highest mark is a new one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (before, resident) = (MEMORY.current_usage(), highest_resident());
    MEMORY.reset_peak_usage();
    storage.pack_with(Tid::MAX, Packing::new().collect(true), &mut Unwatched)?;
    let peak = MEMORY.peak_usage() - before;
    let resident = highest_resident().zip(resident).map(|(after, before)| after.saturating_sub(before));
    println!("{}", serde_json::json!({ "objects": objects, "peak": peak, "resident": resident }));
    Ok(())
}

fn highest_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
