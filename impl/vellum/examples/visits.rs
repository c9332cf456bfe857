//! A counter that Python and Rust count on at the same time, through a server that merges their conflicts.
//!
//!     vellum serve Data.fs
//!     cargo run -p vellum --features client,object --example visits -- 127.0.0.1:8100 100
//!     python impl/vellum/examples/visits.py 127.0.0.1 8100 100
//!
//! Start both at once: no visit is lost, and none is counted twice, although neither waits for the other. The counter
//! is a `BTrees.Length.Length`. The log beside it is a list, whose conflicts cannot be merged: there the program tries
//! again.

use std::sync::Arc;

use vellum::object::{Connection, Database, Generic, PersistentList, PersistentMapping, Ref, Result, Value};
use vellum::raw::pickle::ClassName;
use vellum::remote::{ClientOptions, RemoteStorage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (address, visits) = (args.next().unwrap_or_else(|| "127.0.0.1:8100".to_owned()), args.next());
    println!("{}", run(&address, visits.map_or(Ok(100), |visits| visits.parse())?)?);
    Ok(())
}

/// The object of this name in the root, which is made if there is none.
fn named(connection: &Connection, name: &str, make: impl FnOnce() -> Ref<Generic>) -> Result<Ref<Generic>> {
    let root = connection.root::<PersistentMapping>();
    let there = root.view()?.get(name).and_then(Value::as_reference);
    if let Some(object) = there {
        return Ok(object);
    }
    let made = make();
    root.change(|root| root.insert(name, &made))?;
    Ok(made)
}

fn counter(connection: &Connection) -> Result<Ref<Generic>> {
    let class = ClassName { module: "BTrees.Length".to_owned(), name: "Length".to_owned() };
    named(connection, "visits", || connection.make(Generic::new(class, Value::Int(0))))
}

/// Counts visits, one transaction each, and then notes in the log that it is done. Returns what it saw.
pub fn run(address: &str, visits: u32) -> Result<String> {
    let storage = Arc::new(RemoteStorage::open(ClientOptions::at(address))?);
    let database = Database::with(storage, vellum::object::Options::default())?;
    database.transact(|connection| counter(connection).map(drop))?;
    let mut tries = 0;
    for _ in 0..visits {
        database.transact(|connection| {
            tries += 1;
            counter(connection)?.change(|counter| match counter.state_mut() {
                Value::Int(count) => *count += 1,
                other => *other = Value::Int(1),
            })
        })?;
    }
    let mut tries_of_log = 0;
    database.transact(|connection| {
        tries_of_log += 1;
        let log = named(connection, "log", || connection.make(PersistentList::default()).cast())?;
        log.cast::<PersistentList>().change(|log| log.push(Value::from(format!("Rust counted {visits} visits"))))
    })?;
    let connection = database.connect()?;
    let count = match counter(&connection)?.view()?.state() {
        Value::Int(count) => *count,
        other => panic!("a counter is {other:?}"),
    };
    Ok(format!("{count} visits; {visits} of Rust in {tries} transactions"))
}
