//! Loading, random loads and durable commits, and the same commits appended to a bare file.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::CACHE_BYTES;
use crate::measure::{drop_caches, mb, on_disk_mb, remove};
use crate::stores::{Op, Store, open};
use crate::workload::{MAIL, OBJECTS, Rng, fill, small};

/// How long commits are made.
const TIME: Duration = Duration::from_secs(4);

pub fn speed(name: &str, dir: &Path) {
    let path = dir.join(name);
    remove(&path);
    let s = open(name, &path, CACHE_BYTES).unwrap();
    let start = Instant::now();
    let bytes = fill(&*s, OBJECTS, MAIL);
    let took = start.elapsed();
    s.settle();
    println!(
        "{name:<12} load of all: {:.1} s ({:.0} MB/s of data, settled after {:.1} s), {:.0} MB of data, {:.0} MB on disk",
        took.as_secs_f64(),
        mb(bytes) / took.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        mb(bytes),
        on_disk_mb(&path)
    );
    let warm1 = {
        loads(&*s, OBJECTS, 50_000, 1);
        loads(&*s, OBJECTS, 200_000, 1)
    };
    let warm2 = loads(&*s, OBJECTS, 200_000, 2);
    println!("{name:<12} random loads, warm: {warm1:.0}/s by 1 thread, {warm2:.0}/s by 2");
    drop(s);
    drop_caches();
    let start = Instant::now();
    let s = open(name, &path, CACHE_BYTES).unwrap();
    let opened = start.elapsed();
    let cold = loads(&*s, OBJECTS, 4_000, 1);
    drop(s);
    drop_caches();
    let s = open(name, &path, CACHE_BYTES).unwrap();
    let cold2 = loads(&*s, OBJECTS, 4_000, 2);
    println!(
        "{name:<12} random loads, cold: {cold:.0}/s by 1 thread, {cold2:.0}/s by 2; opened cold in {:.1} ms",
        opened.as_secs_f64() * 1e3
    );
    let (mut tid, mut id) = (1_000_000, 10_000_000);
    for threads in [1, 8] {
        let (n, w) = commits(&|ops| s.apply(ops).unwrap(), &mut tid, &mut id, threads, TIME);
        println!(
            "{name:<12} durable commits of 5 records, {threads} threads: {n:.0}/s, longest {:.1} ms",
            w.as_secs_f64() * 1e3
        );
    }
    drop(s);
    remove(&path);
}

/// Loads a second, of `threads` threads together.
pub fn loads(s: &dyn Store, objects: u64, each: u64, threads: u64) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for t in 0..threads {
            scope.spawn(move || {
                let (mut r, mut rng) = (s.reader().unwrap(), Rng(77 + t));
                for _ in 0..each {
                    let oid = rng.below(objects);
                    let (_, data) = r.load(oid).unwrap().unwrap();
                    assert_eq!(data[..8], oid.to_le_bytes());
                }
            });
        }
    });
    (each * threads) as f64 / start.elapsed().as_secs_f64()
}

/// Commits of 5 records for `time`: commits a second, and the longest wait.
pub fn commits(
    apply: &(dyn Fn(&[Op]) + Sync),
    tid: &mut u64,
    id: &mut u64,
    threads: u64,
    time: Duration,
) -> (f64, Duration) {
    let start = Instant::now();
    if threads == 1 {
        let (mut n, mut longest) = (0, Duration::ZERO);
        while start.elapsed() < time {
            *tid += 1;
            let ops = small(*tid, id);
            let before = Instant::now();
            apply(&ops);
            longest = longest.max(before.elapsed());
            n += 1;
        }
        return (n as f64 / start.elapsed().as_secs_f64(), longest);
    }
    // One writer takes what waits into one durable commit.
    let (send, take) = mpsc::channel::<(Vec<Op>, mpsc::Sender<()>)>();
    let next = Mutex::new((tid, id));
    let total = Mutex::new((0, Duration::ZERO));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next, total) = (send.clone(), &next, &total);
            scope.spawn(move || {
                let (ack, acked) = mpsc::channel();
                let (mut n, mut longest) = (0, Duration::ZERO);
                while start.elapsed() < time {
                    let ops = {
                        let mut g = next.lock().unwrap();
                        *g.0 += 1;
                        let t = *g.0;
                        small(t, g.1)
                    };
                    let before = Instant::now();
                    send.send((ops, ack.clone())).unwrap();
                    acked.recv().unwrap();
                    longest = longest.max(before.elapsed());
                    n += 1;
                }
                let mut t = total.lock().unwrap();
                t.0 += n;
                t.1 = t.1.max(longest);
            });
        }
        drop(send);
        while let Ok((mut ops, ack)) = take.recv() {
            let mut acks = vec![ack];
            while let Ok((more, ack)) = take.try_recv() {
                ops.extend(more);
                acks.push(ack);
            }
            apply(&ops);
            for a in acks {
                let _ = a.send(());
            }
        }
    });
    let t = total.lock().unwrap();
    (t.0 as f64 / start.elapsed().as_secs_f64(), t.1)
}

/// The bytes of the operations, as one append.
fn bytes_of(ops: &[Op]) -> Vec<u8> {
    let mut out = Vec::new();
    for op in ops {
        match op {
            Op::Revision(a, b, c) => [a, b, c].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
            Op::Object(a, b) | Op::DropRevision(a, b) => {
                [a, b].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()))
            }
            Op::DropData(a) => out.extend_from_slice(&a.to_le_bytes()),
            Op::Data(a, d) | Op::Refs(a, d) | Op::Transaction(a, d) => {
                out.extend_from_slice(&a.to_le_bytes());
                out.extend_from_slice(d);
            }
        }
    }
    out
}
/// The bare limit: an append and an `fdatasync` for each commit.
pub fn bare(dir: &Path) {
    let path = dir.join("bare");
    let f = fs::File::create(&path).unwrap();
    let append = |ops: &[Op]| {
        (&f).write_all(&bytes_of(ops)).unwrap();
        f.sync_data().unwrap();
    };
    let (mut tid, mut id) = (0, 0);
    for threads in [1, 8] {
        let (n, w) = commits(&append, &mut tid, &mut id, threads, TIME);
        println!("{:<12} {threads} threads: {n:>8.0} commits/s, longest {:.1} ms", "append", w.as_secs_f64() * 1e3);
    }
    drop(f);
    fs::remove_file(path).unwrap();
}
