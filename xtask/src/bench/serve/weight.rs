//! Memory of a server, and the cost of a pack to loading clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vellum_storage::{Oid, Tid};
use vellum_wire::{Codec, Value};

use super::client::{Client, eight};
use super::process::{Server, Syncs};
use super::{CLIENTS, MEGA, Pair, commit, fresh, together};
use crate::bench::Trouble;
use crate::bench::rows::Rows;
use crate::bench::table::Line;

const LARGE: usize = 64 << 20;
const PACKS: usize = 10;

impl Rows<'_> {
    /// A record of 64 MiB is stored and loaded. The time is that of the load; the notes tell the memory.
    pub(super) fn large_record(&self) -> Result<Line, Trouble> {
        let servers = [
            ("vellum", Server::ours(&fresh(self.folder, "serve-large.fs"), Syncs::One)?),
            ("runzeo", Server::runzeo(self.python, &fresh(self.folder, "serve-large-zeo.fs"))?),
        ];
        let record = large_record();
        let (mut times, mut notes) = (Vec::new(), Vec::new());
        for (name, server) in &servers {
            let mut client = Client::connect(&server.address, Codec::Pickle)?;
            let oid = Oid::from(1_u64);
            let (before, _) = server.memory()?;
            server.forget_peak();
            let tid = commit(&mut client, Value::Int(1), vec![(eight(oid), eight(Tid::ZERO), record.clone())])?;
            let (_, stored) = server.memory()?;
            server.forget_peak();
            let (rested, _) = server.memory()?;
            let Value::Bytes(tid) = tid else { return Err("no tid".into()) };
            let tid = Tid::from_bytes(tid[..].try_into()?);
            let mut best = Duration::MAX;
            for _ in 0..self.rounds {
                let started = Instant::now();
                if client.load(oid, tid.next())? != record {
                    return Err(format!("{name}: another record").into());
                }
                best = best.min(started.elapsed());
            }
            let (_, loaded) = server.memory()?;
            notes.push(format!(
                "{name}, a record of 64 MiB: {:.1} MiB more to store it, {:.1} MiB more to load it",
                stored.saturating_sub(before) as f64 / MEGA,
                loaded.saturating_sub(before.min(rested)) as f64 / MEGA,
            ));
            times.push(best);
        }
        let what = "a load of a record of 64 MiB".to_owned();
        eprintln!("{what}: done");
        Ok(Line { what, ours: times[0], peer: Some(times[1]), limit: None, notes })
    }

    /// Clients load while the database is packed again and again. The times are the longest waits.
    pub(super) fn loads_while_packing(&self, oids: &[Oid]) -> Result<Line, Trouble> {
        let pair = Pair::start(self, Syncs::One)?;
        let calls = Client::connect(&pair.ours.address, Codec::Pickle)?.loads(oids, pair.before)?;
        let (mut times, mut notes) = (Vec::new(), Vec::new());
        for (name, server) in [("vellum", &pair.ours), ("runzeo", &pair.zeo)] {
            let packs = if name == "vellum" { PACKS } else { 1 };
            let is_over = AtomicBool::new(false);
            let load = |client: &mut Client, _| {
                let mut waits = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    client.exchange(&calls, 1, Some(&mut waits))?;
                }
                Ok(waits)
            };
            let packing = || {
                let mut memory = Vec::new();
                let mut client = Client::connect(&server.address, Codec::Pickle)?;
                for _ in 0..packs {
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
                    client.call("pack", vec![Value::Float(now), Value::Bool(true)])?;
                    memory.push(server.memory()?.0);
                }
                Ok::<_, Trouble>(memory)
            };
            // The waiting time of clients with packs, and without one for as long.
            let started = Instant::now();
            let (waits, memory) = std::thread::scope(|scope| {
                let packing = scope.spawn(|| {
                    let packed = packing().map_err(|error| error.to_string());
                    is_over.store(true, Ordering::Relaxed);
                    packed
                });
                let waits = together(&server.address, CLIENTS, load);
                let memory = packing.join().map_err(|_| "the pack panicked".to_owned())?;
                Ok::<_, Trouble>((waits?.1.concat(), memory?))
            })?;
            let packed = started.elapsed();
            let (_, quiet) = together(&server.address, CLIENTS, |client, _| {
                let (mut waits, started) = (Vec::new(), Instant::now());
                while started.elapsed() < packed {
                    client.exchange(&calls, 1, Some(&mut waits))?;
                }
                Ok(waits)
            })?;
            let quiet = quiet.concat();
            let longest = |waits: &[Duration]| waits.iter().max().copied().unwrap_or_default();
            let (longest, longest_quiet, usual) = (longest(&waits), longest(&quiet), median(quiet));
            let times_of = |wait: Duration| wait.as_secs_f64() / usual.as_secs_f64();
            notes.push(format!(
                "{name}, {packs} packs beside {CLIENTS} clients, {:.1} s: usual wait {:.3} ms, longest {:.1} ms ({:.0} times); \
                 as long without a pack: longest {:.1} ms ({:.0} times); memory after the first pack {:.0} MiB, after the \
                 last {:.0} MiB",
                packed.as_secs_f64(),
                usual.as_secs_f64() * 1e3,
                longest.as_secs_f64() * 1e3,
                times_of(longest),
                longest_quiet.as_secs_f64() * 1e3,
                times_of(longest_quiet),
                memory.first().copied().unwrap_or_default() as f64 / MEGA,
                memory.last().copied().unwrap_or_default() as f64 / MEGA,
            ));
            times.push(longest);
        }
        let what = format!("longest wait of {CLIENTS} clients' loads beside packs");
        eprintln!("{what}: done");
        Ok(Line { what, ours: times[0], peer: Some(times[1]), limit: None, notes })
    }
}

fn median(mut waits: Vec<Duration>) -> Duration {
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied().unwrap_or_default()
}

/// A record of an object whose state is 64 MiB of bytes.
fn large_record() -> Bytes {
    let mut record = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\0.\x80\x03B".to_vec();
    record.extend_from_slice(&(LARGE as u32).to_le_bytes());
    record.resize(record.len() + LARGE, b'x');
    record.push(b'.');
    record.into()
}
