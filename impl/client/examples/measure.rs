//! How long this client takes to load cold objects one at a time, and to stream stores:
//!
//! ```text
//! measure HOST:PORT load OIDS COUNT       OIDS is a file with an oid in each line, in hex
//! measure HOST:PORT store SIZE COUNT      SIZE is that of a record in bytes
//! ```
//!
//! It prints seconds. `xtask/peer/client_bench.py` is the same with ZEO's client.

use std::time::{Duration, Instant};

use vellum_client::{Client, ClientOptions, Promise};
use vellum_storage::{Bytes, Oid, Tid, TransactionMeta};

type Trouble = Box<dyn std::error::Error>;

fn main() -> Result<(), Trouble> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, what, which, count] = args.as_slice() else {
        return Err("measure HOST:PORT load OIDS COUNT, or measure HOST:PORT store SIZE COUNT".into());
    };
    let client = Client::open(ClientOptions::at(address))?;
    client.connected().wait()?;
    let took = match what.as_str() {
        "load" => load(&client, which, count.parse()?)?,
        _ => store(&client, which.parse()?, count.parse()?)?,
    };
    println!("{}", took.as_secs_f64());
    Ok(())
}

fn load(client: &Client, oids: &str, count: usize) -> Result<Duration, Trouble> {
    let text = std::fs::read_to_string(oids)?;
    let mut wanted = Vec::new();
    for line in text.lines() {
        let oid = Oid(u64::from_str_radix(line.trim(), 16)?);
        if !wanted.contains(&oid) && wanted.len() < count {
            wanted.push(oid);
        }
    }
    let started = Instant::now();
    for oid in wanted {
        client.load(oid).wait()?.ok_or("an object is not there")?;
    }
    Ok(started.elapsed())
}

fn store(client: &Client, size: usize, count: usize) -> Result<Duration, Trouble> {
    let oids: Vec<Promise<Oid>> = (0..count).map(|_| client.new_oid()).collect();
    for oid in &oids {
        oid.wait()?;
    }
    let mut record = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03N.".to_vec();
    record.resize(record.len() + size, b'x');
    let record = Bytes::from(record);
    let started = Instant::now();
    let transaction = client.begin(TransactionMeta::new().user("bench").description("stores"));
    for oid in oids {
        transaction.store(oid, Tid::ZERO, record.clone()).wait()?;
    }
    transaction.commit().wait()?;
    Ok(started.elapsed())
}
