//! Any bytes as a client's cache file: Vellum's, and that of ZEO's own client.
//!
//! ```text
//!   how │ the rest
//!    0    a file of Vellum, from its beginning; what is missing is zeros
//!    1    the same, in which all checksums fit
//!    2    a good file of Vellum, at whose places (two bytes) bytes (one) are changed
//!    3    the same, in which all checksums fit
//!    4    a file of ZEO
//! ```
//!
//! No file may cause a panic. If no checksum was made to fit, every answer is one that the good file had. In every case
//! an invalidated state is not current, also for the next process.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use vellum_cache::{CacheFile, Changed, Core, Guest, Medium, Options, Report, Shape, Thorough, Words, zec};
use vellum_disk::{Disk, Open, SimDisk};
use vellum_storage::{LoadedAt, Oid, Tid};

const PATH: &str = "client.cache";
const OPTIONS: Options = Options { bytes: 16 * SEGMENT_BYTES as u64, boot: Some([1; 16]), nonce: 1, changes: 16 };
const SEGMENTS_START: usize = 8192;
const SEGMENT_BYTES: usize = 4096;
const HEADER_BYTES: usize = 64;
/// Where the checksums of the file's head and of the three moments are, and from where on they count.
const SUMS: [(usize, usize); 5] = [(0, 20), (4096, 32), (4608, 32), (5120, 32), (5632, 24)];
const OBJECTS: u64 = 8;
const LAST: Tid = Tid(9);

/// Opens the file, asks it, changes it, and opens it once more.
pub fn cache_file(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut bytes = good().to_vec();
    match how % 5 {
        0 | 1 => {
            let taken = rest.len().min(bytes.len());
            bytes.fill(0);
            bytes[..taken].copy_from_slice(&rest[..taken]);
        }
        2 | 3 => {
            for change in rest.chunks_exact(3) {
                let at = usize::from(change[0]) << 8 | usize::from(change[1]);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = change[2];
                }
            }
        }
        _ => return of_zeo(rest),
    }
    let fits = how % 5 % 2 == 1;
    if fits {
        fit(&mut bytes);
    }
    of_vellum(&bytes, fits);
}

/// A file with some objects, of which half have ended.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let disk = SimDisk::new(1);
        let cache = open(&disk, 1);
        cache.core().clear(Tid(5));
        for oid in 0..OBJECTS {
            cache.core().store(cache.core().ask(), Oid(oid), &revision(oid, 3));
        }
        cache.core().invalidate(LAST, &(0..OBJECTS / 2).map(Oid).collect::<Vec<_>>());
        cache.close().expect("the disk is whole");
        disk.read_file(Path::new(PATH)).expect("it was written")
    })
}

fn revision(oid: u64, tid: u64) -> LoadedAt {
    LoadedAt { data: Bytes::from(format!("{oid} of {tid}").repeat(20)), tid: Tid(tid), next: None }
}

fn open(disk: &SimDisk, nonce: u64) -> CacheFile {
    CacheFile::open(disk, Path::new(PATH), &Options { nonce, ..OPTIONS }).expect("the disk is whole")
}

/// Makes the checksums fit that stand where the layout has them.
fn fit(bytes: &mut [u8]) {
    SUMS.iter().for_each(|(from, length)| sum(bytes, *from, *length));
    for segment in (SEGMENTS_START..good().len()).step_by(SEGMENT_BYTES) {
        sum(bytes, segment, 28);
        for header in 1..SEGMENT_BYTES / HEADER_BYTES {
            let header = segment + header * HEADER_BYTES;
            // Only headers of this life: all others would write over data.
            if bytes[header..header + 8] == bytes[segment + 16..segment + 24] {
                sum(bytes, header, 36);
                sum(bytes, header, 48);
            }
        }
    }
}

/// Writes the checksum of some bytes behind them.
fn sum(bytes: &mut [u8], from: usize, length: usize) {
    let check = crc32fast::hash(&bytes[from..from + length]);
    bytes[from + length..from + length + 4].copy_from_slice(&check.to_le_bytes());
}

fn of_vellum(bytes: &[u8], fits: bool) {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new(PATH), Open::CreateNew).expect("the disk is whole");
    file.write_at(bytes, 0).expect("the disk is whole");
    let report = Report::read(&disk, Path::new(PATH), Thorough::Records).expect("the disk is whole");
    if let Some(report) = report {
        assert!(report.damaged <= report.open + report.ended);
    }
    // Such a file is refused: no later number would be left.
    let Ok(cache) = CacheFile::open(&disk, Path::new(PATH), &Options { nonce: 2, ..OPTIONS }) else { return };
    of_guest(&disk, fits);
    let head = cache.core().head();
    if !fits {
        assert!(head == Tid::ZERO || head == Tid(5) || head == LAST, "a head that never was");
        for oid in 0..OBJECTS {
            if let Some(found) = cache.core().get(Oid(oid), head.next()) {
                assert_eq!(found.data, revision(oid, 3).data, "bytes that were never stored");
            }
        }
    }
    if head > Tid(u64::MAX - 10) {
        return;
    }
    ask(cache.core());
    let tid = head.next();
    cache.core().invalidate(tid, &[Oid(7), Oid(1)]);
    assert_ended(cache.core());
    for oid in 0..40 {
        cache.core().store(cache.core().ask(), Oid(100 + oid), &revision(oid, 1));
    }
    assert_ended(cache.core());
    cache.close().expect("the disk is whole");
    let again = open(&disk, 3);
    assert_eq!(again.core().head(), tid);
    assert_ended(again.core());
    ask(again.core());
    let rolled_back = Tid(tid.0 / 2);
    again.core().clear(rolled_back);
    assert!(again.core().is_empty() && again.core().head() == rolled_back);
}

/// Another process reads the file, while its owner has it.
fn of_guest(disk: &SimDisk, fits: bool) {
    let mut guest = Guest::new(Arc::new(disk.clone()), PATH.into(), Options { nonce: 4, ..OPTIONS });
    guest.verify(Changed::Any, LAST);
    guest.compare(Oid(7), &revision(7, 3));
    for oid in 0..OBJECTS {
        for before in [Tid(1), Tid(4), LAST, LAST.next(), Tid::MAX] {
            let Some(found) = guest.get(Oid(oid), before) else { continue };
            assert!(found.tid < before && before <= LAST.next(), "a state of another moment");
            assert!(found.next.is_none_or(|next| before <= next && found.tid < next));
            assert!(fits || found.data == revision(oid, 3).data, "bytes that were never stored");
        }
    }
}

fn ask<M: Medium>(core: &Core<M>) {
    let head = core.head();
    for oid in 0..OBJECTS {
        for before in [Tid(1), Tid(4), Tid(10), head, head.next(), Tid::MAX] {
            let Some(found) = core.get(Oid(oid), before) else { continue };
            assert!(found.tid < before && before <= head.next(), "a state of another moment");
            assert!(found.next.is_none_or(|next| before <= next && found.tid < next));
        }
    }
}

fn assert_ended<M: Medium>(core: &Core<M>) {
    for oid in [Oid(7), Oid(1)] {
        // A file may say that a state ended later, and then it did not end by this change.
        let found = core.get(oid, core.head().next()).filter(|found| found.next.is_none());
        assert!(found.is_none_or(|found| found.tid >= core.head()), "{oid:?} was invalidated");
    }
}

fn of_zeo(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    let file = disk.open(Path::new("client.zec"), Open::CreateNew).expect("the disk is whole");
    file.write_at(bytes, 0).expect("the disk is whole");
    let (mut count, mut total) = (0, 0);
    let report = zec::read(&*file, |_, found| {
        count += 1;
        total += found.data.len() as u64;
    });
    let Some(report) = report.expect("the disk is whole") else { return };
    assert_eq!((report.open + report.ended, report.bytes), (count, total));
    assert!(report.bytes + report.free_bytes <= bytes.len() as u64);
    let shape = Shape::of_bytes(1 << 18);
    let core = Core::new(Words::new(shape.segments, shape.segment_bytes), shape, Tid::ZERO);
    let imported = zec::import(&*file, &core).expect("the disk is whole");
    assert_eq!(imported.is_ok(), report.damage.is_none() && report.head != Tid::ZERO);
    if imported.is_ok() {
        assert_eq!(core.head(), report.head);
        ask(&core);
    }
}

/// Files to begin with: changes of a good one, whole ones, and files of ZEO.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = vec![("whole".to_owned(), [&[0][..], &good()[..20_000]].concat())];
    seeds.push(("whole-that-fits".to_owned(), [&[1][..], &good()[..20_000]].concat()));
    let interesting =
        [0, 8, 12, 16, 4096, 4104, 4608, 5120, 5128, 5136, 8192, 8200, 8208, 8256, 8264, 8272, 8280, 8284];
    for (n, at) in interesting.into_iter().chain([8292, 8296, 8304, 12_280]).enumerate() {
        for how in [2, 3] {
            let [high, low] = (at as u16).to_be_bytes();
            seeds.push((format!("changed-{how}-{at}"), vec![how, high, low, n as u8 + 1]));
        }
    }
    let record = |oid: u8, tid: u8, end: u8, data: &[u8]| {
        let number = |n: u8| [0, 0, 0, 0, 0, 0, 0, n];
        let length = [0, 0, 0, 43 + data.len() as u8];
        let data_length = [0, 0, 0, data.len() as u8];
        let head = [number(oid), number(tid), number(end)].concat();
        [&b"a"[..], &length, &head, &[0, 0], &data_length, data, &number(oid)].concat()
    };
    let head = b"\x04ZEC3\0\0\0\0\0\0\0\x09";
    let blocks = [record(1, 2, 0, b"current"), b"f\0\0\0\x07xx".to_vec(), b"3xx".to_vec(), record(1, 1, 2, b"old")];
    for n in 0..=blocks.len() {
        seeds.push((format!("zeo-{n}"), [head, &blocks[..n].concat()[..]].concat()));
    }
    seeds
}
