//! The memory of a pack: packs FILE.fs to now, with collection, and prints a line of JSON.
//!
//! It is a process of its own because it counts every allocation, and that time must not be in other measurements.
//! Where memory grows by moving, the old place and the new one both count. `peak` is the greatest increase over the
//! time before the pack, in requested bytes; `resident` is the same as the system sees it (Linux only).
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
