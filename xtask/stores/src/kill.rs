//! A process that commits and is killed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::CACHE_BYTES;
use crate::measure::remove;
use crate::stores::open;
use crate::workload::{CHURNED, MAIL, Rng, SMALL, churning, record};

const KILLS: u64 = 20;

/// Commits until it is killed, and acknowledges each commit in a line.
pub fn committing(name: &str, dir: &Path, first: u64) {
    let s = open(name, &dir.join(name), CACHE_BYTES).unwrap();
    let mut out = std::io::stdout().lock();
    for n in first.. {
        s.apply(&churning(n)).unwrap();
        writeln!(out, "{n}").unwrap();
        out.flush().unwrap();
    }
}
/// Kills a committing process at random moments. Each acknowledged commit must be there; one more may be, as a whole.
pub fn kill(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let mut rng = Rng(5);
    let (mut acked, mut slowest, mut unacked) = (0u64, Duration::ZERO, 0);
    for _ in 0..KILLS {
        let mut c = Command::new(std::env::current_exe().unwrap())
            .args(["committing", name, dir.to_str().unwrap(), &(acked + 1).to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(c.stdout.take().unwrap());
        let wait = Duration::from_millis(100 + rng.below(900));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(wait);
            c.kill().unwrap();
            c.wait().unwrap();
        });
        for line in out.lines() {
            if let Ok(n) = line.unwrap_or_default().parse() {
                acked = acked.max(n)
            }
        }
        killer.join().unwrap();
        let start = Instant::now();
        let s = match open(name, &path, CACHE_BYTES) {
            Ok(s) => s,
            Err(e) => {
                println!("{name:<12} kill: does not open: {e}");
                return;
            }
        };
        slowest = slowest.max(start.elapsed());
        let mut newest = HashMap::new();
        for n in acked.saturating_sub(999)..=acked + 1 {
            if n == 0 {
                continue;
            }
            for k in 0..SMALL {
                newest.insert((n * SMALL + k) % CHURNED, n);
            }
        }
        let mut r = s.reader().unwrap();
        let mut more = 0;
        for (oid, n) in newest {
            let got = r.load(oid);
            let good = match &got {
                Ok(Some((tid, data))) if n == acked + 1 => {
                    if *tid == n {
                        more += 1;
                        *data == record(oid, n, MAIL)
                    } else {
                        true
                    }
                }
                Ok(Some((tid, data))) => *tid == n && *data == record(oid, n, MAIL),
                Ok(None) => n == acked + 1,
                Err(_) => false,
            };
            if !good {
                println!(
                    "{name:<12} kill: object {oid} of commit {n} (acknowledged to {acked}) is wrong: {:?}",
                    got.map(|g| g.map(|g| g.0))
                );
                return;
            }
        }
        if more != 0 && more != SMALL {
            println!("{name:<12} kill: half of commit {}", acked + 1);
            return;
        }
        if more == SMALL {
            acked += 1;
            unacked += 1
        }
    }
    println!(
        "{name:<12} {KILLS} kills, {acked} commits: all acknowledged are there ({unacked} times one more, whole); slowest opening {:.0} ms",
        slowest.as_secs_f64() * 1e3
    );
    remove(&path);
}
