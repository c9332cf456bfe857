//! The formats of traces, what is made of them, and the tables of small ones.

use proptest::prelude::*;
use vellum_simulate::export::{LOAD_BYTES, oracle_general};
use vellum_simulate::policy::{Kind, NEVER};
use vellum_simulate::simulate::Prefetch;
use vellum_simulate::table::{Column, about, run, table, verdict_table, verdicts};
use vellum_simulate::trace::{Event, Fault, Record, Trace, compact, read, read_within, zeo};
use vellum_simulate::workload::{Step, Workload};

fn records(is_zeo: bool) -> impl Strategy<Value = Vec<Record>> {
    let size = 1..if is_zeo { zeo::SIZE_MAX } else { u32::MAX };
    let tid = || 1..u64::MAX;
    let event = prop_oneof![
        Just(Event::Open),
        Just(Event::Load(None)),
        Just(Event::Forget),
        (size.clone(), tid()).prop_map(|found| Event::Load(Some(found))),
        tid().prop_map(|before| Event::LoadOld { before, found: None }),
        (size.clone(), tid(), tid()).prop_map(|found| Event::LoadOld { before: found.2, found: Some(found) }),
        (size.clone(), tid(), prop::option::of(tid())).prop_map(|(size, tid, end)| Event::Store { size, tid, end }),
        tid().prop_map(Event::Invalidate),
        prop::collection::vec((any::<u64>(), any::<u32>()), 0..4).prop_map(Event::References),
    ];
    let record = (1..u32::MAX, any::<u64>(), event).prop_map(|(seconds, oid, event)| {
        let oid = if event == Event::Open { 0 } else { oid };
        Record { seconds, oid, event }
    });
    prop::collection::vec(record, 1..40)
}

proptest! {
    #[test]
    fn a_compact_trace_is_read_as_it_was_written(records in records(false)) {
        let (trace, mut bytes) = (Trace { records, ..Trace::default() }, Vec::new());
        compact::write(&trace, &mut bytes);
        prop_assert_eq!(read(&bytes), Ok(trace));
    }

    #[test]
    fn a_trace_of_zeo_is_read_as_it_was_written(mut records in records(true)) {
        let mut bytes = Vec::new();
        let left_out = zeo::write(&Trace { records: records.clone(), ..Trace::default() }, &mut bytes);
        let all = records.len() as u64;
        records.retain(|record| !matches!(record.event, Event::References(_)));
        prop_assert_eq!(left_out, all - records.len() as u64);
        if !records.is_empty() {
            prop_assert_eq!(read(&bytes), Ok(Trace { records, ..Trace::default() }));
        }
    }

    #[test]
    fn any_bytes_are_a_trace_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200), is_compact: bool) {
        if is_compact {
            bytes.splice(0..0, *compact::MAGIC);
        }
        if let Ok(trace) = read(&bytes) {
            prop_assert!(trace.records.len() <= bytes.len());
            let workload = Workload::of(&trace);
            prop_assert!(workload.steps.len() <= trace.records.len());
        }
    }

    #[test]
    fn a_cut_trace_has_the_records_before_the_cut(records in records(false), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        compact::write(&Trace { records: records.clone(), ..Trace::default() }, &mut bytes);
        let cut = cut.index(bytes.len() - compact::MAGIC.len()) + compact::MAGIC.len();
        if let Ok(trace) = read(&bytes[..cut]) {
            prop_assert!(records.starts_with(&trace.records));
            prop_assert!(trace.records.len() < records.len());
        }
    }
}

fn record(code: u8, oid: &[u8], size: u32, start: u64, end: u64) -> Vec<u8> {
    let mut bytes = Vec::from(1_764_000_000_u32.to_be_bytes());
    bytes.extend((size << 8 | u32::from(code)).to_be_bytes());
    bytes.extend((oid.len() as u16).to_be_bytes());
    bytes.extend(start.to_be_bytes());
    bytes.extend(end.to_be_bytes());
    bytes.extend(oid);
    bytes
}

fn events(bytes: &[u8]) -> Vec<(u64, Event)> {
    read(bytes).unwrap().records.into_iter().map(|record| (record.oid, record.event)).collect()
}

#[test]
fn each_code_of_zeo_has_its_event() {
    let oid = 7_u64.to_be_bytes();
    let bytes = [
        record(0x00, b"", 0, 0, 0),
        record(0x20, &oid, 0, 0, 0),
        record(0x52, &oid, 90_000, 5, 0),
        record(0x22, &oid, 90_000, 5, 0),
        record(0x1c, &oid, 0, 6, 0),
        record(0x10, &oid, 0, 7, 0),
        record(0x24, &oid, 0, 0, 6),
        record(0x54, &oid, 257, 5, 6),
        record(0x26, &oid, 257, 5, 6),
        record(0x1e, &oid, 0, 0, 0),
    ];
    let expected = [
        (0, Event::Open),
        (7, Event::Load(None)),
        (7, Event::Store { size: 90_000, tid: 5, end: None }),
        (7, Event::Load(Some((90_000, 5)))),
        (7, Event::Invalidate(6)),
        (7, Event::Invalidate(7)),
        (7, Event::LoadOld { before: 6, found: None }),
        (7, Event::Store { size: 257, tid: 5, end: Some(6) }),
        (7, Event::LoadOld { before: 6, found: Some((257, 5, 6)) }),
        (7, Event::Forget),
    ];
    assert_eq!(events(&bytes.concat()), expected);
    assert_eq!(record(0x20, &oid, 0, 0, 0).len(), 34);
}

#[test]
fn relstorage_writes_the_root_without_a_byte() {
    assert_eq!(events(&record(0x22, b"", 300, 5, 0)), [(0, Event::Load(Some((300, 5))))]);
}

#[test]
fn what_is_no_trace_is_an_error_that_says_where() {
    let good = record(0x20, &[0; 8], 0, 0, 0);
    let fault = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    let faults = [
        fault(b""),
        fault(&[good.clone(), record(0x38, &[0; 8], 0, 0, 0)].concat()),
        fault(&[good.clone(), record(0x20, &[0; 5], 0, 0, 0)].concat()),
        fault(b"VLTRACE1\x0c\x02\x02"),
        fault(b"VLTRACE1\x02\x02\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        fault(b"VLTRACE1\x01\xff\xff\xff\xff\xff\x02\x02"),
        fault(&[0x1f, 0x8b, 8, 0]),
    ];
    kept("simulate-faults", &faults.join("\n"));
    // One record without a time, and a client that was killed.
    let trace = read(&[&[0; 8][..], &good, &good[..20]].concat()).unwrap();
    assert_eq!((trace.records.len(), trace.skipped, trace.is_cut), (1, 1, true));
}

#[test]
fn a_small_file_cannot_become_a_large_trace() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 1 << 20]).unwrap();
    let bytes = gzip.finish().unwrap();
    assert!(bytes.len() < 1 << 12);
    assert_eq!(read_within(&bytes, 1 << 16), Err(Fault::TooLong));
    // A list that claims to be longer than the file.
    let list = [b"VLTRACE1".as_slice(), &[9, 2, 2, 0xff, 0xff, 0xff, 0xff, 0x7f, 2, 2]].concat();
    assert_eq!(read(&list), Err(Fault::Empty));
}

/// A small trace: misses with their answers, a commit, a change, an object that does not exist.
fn small() -> Trace {
    let store = |size, tid| Event::Store { size, tid, end: None };
    let mut records = vec![(0, Event::Open)];
    for round in 0..3_u64 {
        for oid in 1..=6 {
            records.push((oid, Event::Load(None)));
            records.push((oid, store(100 * oid as u32 + round as u32, 1 + round)));
            records.push((oid, Event::Load(Some((100 * oid as u32 + round as u32, 1 + round)))));
        }
        records.push((2, Event::Invalidate(2 + round)));
        records.push((2, store(900, 2 + round)));
    }
    records.push((99, Event::Load(None)));
    records.push((3, Event::LoadOld { before: 1, found: None }));
    records.push((1, Event::References(vec![(2, 900), (3, 300)])));
    let records = records.into_iter().enumerate();
    let records = records.map(|(at, (oid, event))| Record { seconds: 1_764_000_000 + at as u32, oid, event });
    Trace { records: records.collect(), ..Trace::default() }
}

#[test]
fn a_miss_has_the_size_of_its_answer() {
    let workload = Workload::of(&small());
    assert_eq!(workload.steps[..2], [Step::Load { oid: 1, size: 100 }, Step::Load { oid: 1, size: 100 }]);
    assert_eq!(workload.steps[12..14], [Step::Change { oid: 2 }, Step::Arrive { oid: 2, size: 900 }]);
    assert_eq!((workload.loads(), workload.unknown, workload.old), (36, 1, 1));
    // The revision is not loaded before it changes.
    assert_eq!(workload.next(2, 3), NEVER);
    assert_eq!(workload.next(1, 1), 13);
}

/// Compares with a text among the workspace's snapshots.
fn kept(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn tables_of_a_small_trace() {
    let (trace, sizes) = (small(), [1 << 10, 2 << 10, 4 << 10]);
    let workload = Workload::of(&trace);
    let prefetches = [Prefetch::None, Prefetch::Follow(2), Prefetch::References(2)];
    let rows = run("small", &workload, &Kind::ALL, &sizes, &prefetches, 0);
    let tables = Column::ALL.map(|column| table(&rows, column)).join("\n");
    let verdicts = verdict_table(&verdicts(&rows));
    let about = about("small", &trace, &workload);
    kept("simulate-small", &format!("{about}\n\n{tables}\n{verdicts}"));
}

#[test]
fn an_export_has_the_next_load_of_each_revision() {
    let bytes = oracle_general(&Workload::of(&small()));
    let loads = bytes.chunks_exact(LOAD_BYTES).map(|load| {
        let u32_at = |at: usize| u32::from_le_bytes(load[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(load[at..at + 8].try_into().unwrap());
        (u64_at(4), u32_at(12), u64_at(16) as i64)
    });
    let loads: Vec<_> = loads.collect();
    assert_eq!(loads.len(), 36);
    assert_eq!(loads[..4], [(1, 100, 2), (1, 100, 13), (2, 200, 4), (2, 200, -1)]);
    // A changed object has another number.
    assert_eq!(loads[14], (2 ^ 1 << 48, 201, 16));
}
