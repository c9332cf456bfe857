//! Cache files of ZEO's own client: what it writes is read, and anything else is refused with a place.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use vellum_cache::zec::{self, NotImported, ZecReport};
use vellum_cache::{Core, Shape, Words};
use vellum_disk::{Disk, DiskFile, Open, SimDisk};
use vellum_storage::{LoadedAt, Oid, Tid};

fn file(bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = SimDisk::new(1).open(Path::new("client.zec"), Open::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn head(tid: u64) -> Vec<u8> {
    [&b"ZEC3"[..], &tid.to_be_bytes()].concat()
}

fn record(oid: u64, tid: u64, end: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'a'];
    bytes.extend((43 + data.len() as u32).to_be_bytes());
    [oid, tid, end].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend([0, 0]);
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes.extend(oid.to_be_bytes());
    bytes
}

fn free(length: u32) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    bytes[0] = b'f';
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn good() -> Vec<u8> {
    [head(9), record(1, 2, 0, b"current"), free(50), b"3xx".to_vec(), record(1, 1, 2, b"old"), free(7)].concat()
}

fn core() -> Core<Words> {
    let shape = Shape::of_bytes(1 << 20);
    Core::new(Words::new(shape.segments, shape.segment_bytes), shape, Tid::ZERO)
}

fn read(bytes: &[u8]) -> (Option<ZecReport>, Vec<(Oid, LoadedAt)>) {
    let mut records = Vec::new();
    let report = zec::read(&*file(bytes), |oid, found| records.push((oid, found))).unwrap();
    (report, records)
}

#[test]
fn the_records_of_a_file_are_imported_with_their_moment() {
    let (report, records) = read(&good());
    let report = report.unwrap();
    assert_eq!((report.head, report.open, report.ended, report.bytes), (Tid(9), 1, 1, 10));
    assert_eq!((report.free_bytes, report.damage), (60, None));
    assert_eq!(records.len(), 2);
    let core = core();
    assert_eq!(zec::import(&*file(&good()), &core).unwrap(), Ok(report));
    assert_eq!(core.head(), Tid(9));
    assert_eq!(core.get(Oid(1), Tid(10)).map(|found| found.data), Some("current".into()));
    assert_eq!(core.get(Oid(1), Tid(2)).map(|found| (found.data, found.next)), Some(("old".into(), Some(Tid(2)))));
    assert_eq!(zec::import(&*file(&good()), &core).unwrap(), Err(NotImported::NotEmpty));
}

#[test]
fn a_file_that_is_not_right_is_refused() {
    let refused = |bytes: &[u8]| zec::import(&*file(bytes), &core()).unwrap().err();
    assert_eq!(refused(b"ZEC2xxxxxxxxxxx"), Some(NotImported::NoCache));
    assert_eq!(refused(&[head(0), free(9)].concat()), Some(NotImported::NoMoment));
    let damaged = |blocks: &[Vec<u8>]| match refused(&[head(9), blocks.concat()].concat()) {
        Some(NotImported::Damaged(at, why)) => (at, why),
        other => panic!("{other:?}"),
    };
    assert_eq!(damaged(&[b"x".to_vec()]), (12, "no block begins here"));
    assert_eq!(damaged(&[b"f\0".to_vec()]), (12, "a block has no length"));
    assert_eq!(damaged(&[b"f\0\0\0\x04".to_vec()]), (12, "a free block is shorter than its head"));
    assert_eq!(damaged(&[free(9), b"4".to_vec()]), (21, "a block does not end within the file"));
    assert_eq!(damaged(&[record(1, 2, 2, b"")]), (12, "a record ends before it begins"));
    let twice = [record(1, 2, 0, b""), record(1, 3, 0, b"")];
    assert_eq!(damaged(&twice), (12 + 43, "an object has two current records"));
    let mut other = record(1, 2, 0, b"data");
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(damaged(&[other]), (12, "a record's second oid is not its first"));
    let mut long = record(1, 2, 0, b"data");
    long[34] = 5;
    assert_eq!(damaged(&[long]), (12, "a record is longer than its block"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(mut bytes in prop::collection::vec(any::<u8>(), 0..200), of_good in 0..120_usize) {
        let mut whole = good();
        whole.truncate(of_good);
        whole.append(&mut bytes);
        let (report, records) = read(&whole);
        let bytes: usize = records.iter().map(|(_, found)| found.data.len()).sum();
        prop_assert_eq!(report.map_or(0, |report| report.bytes), bytes as u64);
    }
}
