//! Any bytes as a trace of a client's cache.
//!
//! The first byte chooses: 0 a compact trace without its magic, 1 any format, 2 the same, compressed. No bytes cause a
//! panic. A trace that was read is the same after it was written in the compact format. Its records can be played
//! through every policy, which stays within its size.

use std::io::Write;

use vellum_simulate::cache_simul;
use vellum_simulate::export::{LOAD_BYTES, oracle_general};
use vellum_simulate::policy::Kind;
use vellum_simulate::simulate::{Prefetch, simulate};
use vellum_simulate::trace::{Trace, compact, read_within};
use vellum_simulate::workload::Workload;

const BYTES_MAX: u64 = 1 << 20;

/// Reads the bytes, and plays the trace that they are.
pub fn trace(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let bytes = match how % 3 {
        0 => [compact::MAGIC, rest].concat(),
        1 => rest.to_vec(),
        _ => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(rest).and_then(|()| gzip.finish()).expect("memory takes all")
        }
    };
    let Ok(trace) = read_within(&bytes, BYTES_MAX) else { return };
    let mut written = Vec::new();
    compact::write(&trace, &mut written);
    let whole = Trace { records: trace.records.clone(), ..Trace::default() };
    assert_eq!(read_within(&written, u64::MAX).as_ref(), Ok(&whole), "it is not what was written");

    let workload = Workload::of(&trace);
    assert_eq!(oracle_general(&workload).len() as u64, workload.loads() * LOAD_BYTES as u64);
    for kind in Kind::ALL {
        let mut policy = kind.of(4096, 16);
        for prefetch in [Prefetch::None, Prefetch::Follow(2), Prefetch::References(2)] {
            let counts = simulate(&workload, &mut *policy, prefetch);
            assert!(counts.hits <= counts.loads && counts.hit_bytes <= counts.bytes);
            assert!(policy.used() <= policy.capacity());
        }
    }
    let line = cache_simul::play(&trace, 4096, 3600);
    assert!(line.hits <= line.loads);
}

/// Traces with every event, whole and cut.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    use vellum_simulate::trace::{Event, Record, zeo};
    let store = |size, tid, end| Event::Store { size, tid, end };
    let events = [
        Event::Open,
        Event::Load(None),
        store(300, 5, None),
        Event::Load(Some((300, 5))),
        Event::LoadOld { before: 4, found: None },
        store(200, 3, Some(5)),
        Event::LoadOld { before: 5, found: Some((200, 3, 5)) },
        Event::References(vec![(2, 100), (3, 400)]),
        Event::Load(None),
        store(100, 6, None),
        Event::Invalidate(7),
        Event::Load(None),
        Event::Forget,
    ];
    let record = |(at, event): (usize, &Event)| Record {
        seconds: 1_764_000_000 + at as u32 * 2000,
        oid: if *event == Event::Open { 0 } else { 1 + at as u64 / 4 },
        event: event.clone(),
    };
    let trace = Trace { records: events.iter().enumerate().map(record).collect(), ..Trace::default() };
    let (mut of_zeo, mut of_vellum) = (vec![1], Vec::new());
    zeo::write(&trace, &mut of_zeo);
    compact::write(&trace, &mut of_vellum);
    let of_vellum = [&[0], &of_vellum[compact::MAGIC.len()..]].concat();
    let gzip = [&[2], &of_zeo[1..]].concat();
    let cut = of_zeo[..of_zeo.len() - 9].to_vec();
    let mut seeds = vec![("gzip".to_owned(), gzip), ("cut".to_owned(), cut)];
    for (name, bytes, step) in [("compact", of_vellum, 3), ("zeo", of_zeo, 16)] {
        for at in (1..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x05;
            seeds.push((format!("{name}-{at}"), changed));
        }
        seeds.push((name.to_owned(), bytes));
    }
    seeds
}
