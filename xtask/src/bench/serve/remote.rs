//! Our client and ZEO's, on the same server: ours.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use vellum_client::{Client, ClientOptions, Promise};
use vellum_storage::{Bytes, Oid, Tid, TransactionMeta};

use super::process::{Server, Syncs};
use super::{Rows, copied};
use crate::bench::Trouble;
use crate::bench::table::Line;
use crate::venv;

/// Stores of a transaction, and the bytes of each.
const STORES: usize = 20_000;
const SIZE: usize = 500;

impl Rows<'_> {
    /// Cold loads, each after the answer to the one before it.
    pub(super) fn client_loads(&self, oids: &[Oid]) -> Result<Line, Trouble> {
        let server = Server::ours(&copied(self, "client.fs")?, Syncs::One)?;
        let mut distinct = Vec::new();
        let mut seen = std::collections::HashSet::new();
        distinct.extend(oids.iter().copied().filter(|oid| seen.insert(*oid)));
        let (list, count) = (self.folder.join("oids.txt"), distinct.len().to_string());
        let ours = || -> Result<Duration, Trouble> {
            let client = connected(&server)?;
            let started = Instant::now();
            for oid in &distinct {
                client.load(*oid).wait()?.ok_or("an object is not there")?;
            }
            Ok(started.elapsed())
        };
        let zeo = || python(self.python, &server, &["load", &list.display().to_string(), &count]);
        let what = format!("{count} cold loads by our client and ZEO's of one server, one at a time");
        self.turns(what, &ours, &zeo, None)
    }

    /// One transaction of many new objects.
    pub(super) fn client_stores(&self) -> Result<Line, Trouble> {
        let server = Server::ours(&copied(self, "client.fs")?, Syncs::One)?;
        let ours = || -> Result<Duration, Trouble> {
            let client = connected(&server)?;
            let oids: Vec<Promise<Oid>> = (0..STORES).map(|_| client.new_oid()).collect();
            oids.iter().try_for_each(|oid| oid.wait().map(drop))?;
            let mut record = b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03N.".to_vec();
            record.resize(record.len() + SIZE, b'x');
            let record = Bytes::from(record);
            let started = Instant::now();
            let transaction = client.begin(TransactionMeta::new().user("bench").description("stores"));
            for oid in oids {
                transaction.store(oid, Tid::ZERO, record.clone()).wait()?;
            }
            transaction.commit().wait()?;
            Ok(started.elapsed())
        };
        let zeo = || python(self.python, &server, &["store", &SIZE.to_string(), &STORES.to_string()]);
        let what = format!("{STORES} stores in one transaction by our client and ZEO's of one server");
        self.turns(what, &ours, &zeo, None)
    }
}

fn connected(server: &Server) -> Result<Client, Trouble> {
    let client = Client::open(ClientOptions::at(&server.address))?;
    client.connected().wait()?;
    Ok(client)
}

/// Returns the time that `client_bench.py` prints.
fn python(python: &Path, server: &Server, args: &[&str]) -> Result<Duration, Trouble> {
    let mut command = Command::new(python);
    let output = command.arg(venv::script("client_bench.py")).arg(&server.address).args(args).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(Duration::from_secs_f64(String::from_utf8(output.stdout)?.trim().parse()?))
}
