//! The memory of objects: makes GHOSTS ghosts, and loads the messages of FILE.fs whose oids OIDS lists, and prints a
//! line of JSON with the bytes for each.
//!
//! It is a process of its own because it counts every allocation. `ghost` is all that the heap takes for a ghost, its
//! share of the table of oids included; `message` is what a loaded message takes beside its ghost; `record` is the
//! length of its record. `map` is what a `HashMap` from oids to records takes for each message.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Arc;

use peak_alloc::PeakAlloc;
use vellum_file::FileStorage;
use vellum_object::{Database, Generic, Options, Ref};
use vellum_storage::{Oid, Storage, Version};

#[path = "../bench/message.rs"]
mod message;

use message::Message;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "object-memory FILE.fs GHOSTS OIDS";
    let mut arg = || args.next().ok_or(usage);
    let (path, ghosts, oids) = (arg()?, arg()?.parse::<u64>()?, std::fs::read_to_string(arg()?)?);
    let oids: Vec<Oid> = oids.lines().map(str::parse).collect::<Result<_, _>>()?;
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::open_read_only(path)?);
    let options = Options { bytes_max: u64::MAX, ..Options::default() };
    let database = Database::with(Arc::clone(&storage), options)?;

    let connection = database.connect()?;
    let mut made: Vec<Ref<Generic>> = Vec::with_capacity(ghosts as usize);
    let (ghost, ()) = taken(|| {
        made.extend((0..ghosts).map(|n| connection.get(Oid((1 << 40) + n))));
        Ok(())
    })?;
    drop((made, connection));

    let connection = database.connect()?;
    let handles: Vec<Ref<Message>> = oids.iter().map(|oid| connection.get(*oid)).collect();
    // A first look at the storage, which may keep something.
    let records = oids.iter().map(|oid| storage.load(*oid, &Version::TRUNK).map(|found| (oid.0, found.data)));
    let records: Vec<(u64, vellum_storage::Bytes)> = records.collect::<Result<_, _>>()?;
    let record: usize = records.iter().map(|(_, data)| data.len()).sum();
    let (map, kept) =
        taken(|| Ok(records.iter().map(|(oid, data)| (*oid, data.to_vec())).collect::<HashMap<u64, Vec<u8>>>()))?;
    drop((kept, records));
    let (message, ()) = taken(|| Ok(handles.iter().try_for_each(|message| message.view().map(drop))?))?;
    let each = |bytes: usize| bytes as f64 / oids.len() as f64;
    println!(
        "{}",
        serde_json::json!({
            "ghost": ghost as f64 / ghosts as f64,
            "message": each(message),
            "record": each(record),
            "map": each(map),
        })
    );
    Ok(())
}

/// The memory that some work takes and keeps, and its result.
fn taken<R>(
    work: impl FnOnce() -> Result<R, Box<dyn std::error::Error>>,
) -> Result<(usize, R), Box<dyn std::error::Error>> {
    let before = MEMORY.current_usage();
    let result = work()?;
    Ok((MEMORY.current_usage().saturating_sub(before), result))
}
