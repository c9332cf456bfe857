//! The memory of our client with a large record: stores one of so many BYTES at the server at ADDRESS, loads it by
//! another client, and prints a line of JSON.
//!
//! It is a process of its own because it counts every allocation. `stored` is the greatest increase while a record is
//! stored that is there already, and `loaded` while it is loaded, in requested bytes: the record is one of them.
#![forbid(unsafe_code)]

use std::time::Instant;

use peak_alloc::PeakAlloc;
use vellum_client::{Client, ClientOptions};
use vellum_storage::{Bytes, Tid, TransactionMeta};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "record-memory ADDRESS BYTES";
    let (address, size) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?.parse::<usize>()?);
    let mut record = Vec::with_capacity(size);
    record.extend_from_slice(b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\0.\x80\x03N.");
    record.resize(size, b'x');
    let record = Bytes::from(record);
    let client = Client::open(ClientOptions::at(&address))?;
    let oid = client.new_oid().wait()?;
    let (_, stored) = measured(|| {
        let transaction = client.begin(TransactionMeta::new());
        transaction.store(oid, Tid::ZERO, record.clone());
        transaction.commit().wait()
    })?;
    drop((client, record));
    let client = Client::open(ClientOptions::at(&address))?;
    client.connected().wait()?;
    let started = Instant::now();
    let (found, loaded) = measured(|| client.load(oid).wait())?;
    let seconds = started.elapsed().as_secs_f64();
    let length = found.map_or(0, |found| found.data.len());
    if length != size {
        return Err(format!("a record of {length} bytes came back").into());
    }
    println!("{}", serde_json::json!({ "stored": stored, "loaded": loaded, "seconds": seconds }));
    Ok(())
}

/// The outcome of some work, and the greatest increase of memory during it.
fn measured<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, usize), E> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let outcome = work()?;
    Ok((outcome, MEMORY.peak_usage().saturating_sub(before)))
}
