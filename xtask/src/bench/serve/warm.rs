//! A start of our client with the cache file that the last one left, beside a start without.

use std::path::Path;
use std::time::{Duration, Instant};

use vellum_client::{Client, ClientOptions};
use vellum_storage::Oid;

use super::ahead::delayed;
use super::process::{Server, Syncs};
use super::{Rows, copied};
use crate::bench::Trouble;
use crate::bench::table::Line;

/// The time that is added to each round trip.
const FAR: Duration = Duration::from_millis(1);
/// Objects that are loaded, one after the other.
const LOADS: usize = 1000;
const CACHE_BYTES: u64 = 64 << 20;

impl Rows<'_> {
    /// Objects of the mail database, loaded by a client that has just begun: with a warm file, and without.
    pub(super) fn client_warm(&self, oids: &[Oid]) -> Result<Line, Trouble> {
        let server = Server::ours(&copied(self, "warm.fs")?, Syncs::One)?;
        let address = delayed(&server.address, FAR / 2)?;
        let path = self.folder.join("warm.cache");
        let mut seen = std::collections::HashSet::new();
        let wanted: Vec<Oid> = oids.iter().copied().filter(|oid| seen.insert(*oid)).take(LOADS).collect();
        let _ = std::fs::remove_file(&path);
        start(&address, Some(&path), &wanted)?;
        let warm = || start(&address, Some(&path), &wanted);
        let cold = || start(&address, None, &wanted);
        let what = format!("start and {} loads, 1 ms away: warm cache file, and cold", wanted.len());
        let line = self.turns(what, &warm, &cold, None)?;
        std::fs::remove_file(&path)?;
        Ok(line)
    }
}

/// From the opening of the file to the last object.
fn start(address: &str, cache: Option<&Path>, wanted: &[Oid]) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let options = ClientOptions::at(address);
    let client = Client::open(match cache {
        Some(path) => options.cache_file(path, CACHE_BYTES),
        None => options,
    })?;
    client.connected().wait()?;
    for oid in wanted {
        client.load(*oid).wait()?.ok_or("an object is not there")?;
    }
    Ok(started.elapsed())
}
