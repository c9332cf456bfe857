//! The simulated disk fails where it was told to, and nowhere else.
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use vellum_disk::{Disk, Open, SimDisk, Tear, is_power_cut};

const TEARS: [Tear; 3] = [Tear::NotAtAll, Tear::Partly, Tear::Wholly];

fn data_fs() -> &'static Path {
    Path::new("Data.fs")
}

/// One operation of each kind, and two calls that are no operations.
fn history(disk: &SimDisk) -> io::Result<()> {
    let (pack, old) = (Path::new("Data.fs.pack"), Path::new("Data.fs.old"));
    let file = disk.open(pack, Open::Truncate)?;
    file.write_at(&[1; 2000], 0)?;
    file.set_len(1500)?;
    file.read_at(&mut [0; 10], 0)?;
    file.sync()?;
    disk.rename(pack, data_fs())?;
    disk.exists(data_fs())?;
    disk.sync_directory(data_fs())?;
    disk.remove(old)
}

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.write_file("Data.fs.old", b"old");
    disk.keep_trace(100);
    disk
}

/// The names and contents that programs see.
fn seen(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let paths = disk.paths().into_iter();
    paths.map(|path| (path.display().to_string(), disk.read_file(&path).unwrap())).collect()
}

#[test]
fn every_operation_counts_once_and_nothing_else_does() {
    let disk = disk(0);
    history(&disk).unwrap();
    assert_eq!(disk.operations(), 7);
    assert!(history(&disk).is_err(), "there is nothing to remove any more");
    assert_eq!(disk.operations(), 14, "failures count too");
    assert_eq!(disk.crash(0).operations(), 0);
}

#[test]
fn the_power_goes_off_in_the_operation_that_was_named() {
    for operation in 0..7 {
        for tear in TEARS {
            let disk = disk(0);
            disk.stop_at(operation, tear);
            let error = history(&disk).unwrap_err();
            assert!(is_power_cut(&error), "{error}");
            let trace = disk.trace();
            assert_eq!(trace.len() as u64, operation + 1, "{trace:#?}");
            assert!(trace.last().unwrap().contains(&format!("done {tear:?}")), "{trace:#?}");
            // The visible state is that of the operations up to this one, with or without it.
            let reference = self::disk(0);
            let with_it = operation + u64::from(tear != Tear::NotAtAll);
            reference.stop_at(with_it, Tear::NotAtAll);
            let _ = history(&reference);
            if tear != Tear::Partly {
                assert_eq!(seen(&disk), seen(&reference), "{operation} {tear:?}");
                let durable = |disk: &SimDisk| seen(&disk.crash_losing_everything());
                assert_eq!(durable(&disk), durable(&reference), "{operation} {tear:?}");
            }
        }
    }
}

#[test]
fn nothing_works_without_power_and_everything_does_after_the_crash() {
    let disk = disk(0);
    disk.write_file(data_fs(), b"data");
    let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
    disk.stop_at(0, Tear::NotAtAll);
    assert!(file.read_at(&mut [0], 0).is_ok(), "nothing happened yet");
    let errors = [
        file.write_at(b"x", 0).unwrap_err(),
        file.read_at(&mut [0], 0).unwrap_err(),
        file.len().unwrap_err(),
        file.sync().unwrap_err(),
        file.set_len(0).unwrap_err(),
        disk.open(data_fs(), Open::Read).unwrap_err(),
        disk.open(data_fs(), Open::Truncate).unwrap_err(),
        disk.clone().exists(data_fs()).unwrap_err(),
        disk.scratch(data_fs()).unwrap_err(),
        disk.rename(data_fs(), data_fs()).unwrap_err(),
        disk.remove(data_fs()).unwrap_err(),
        disk.sync_directory(data_fs()).unwrap_err(),
        disk.lock(data_fs()).unwrap_err(),
    ];
    assert!(errors.iter().all(is_power_cut), "{errors:?}");
    assert_eq!(disk.operations(), 1);
    let after = disk.crash(0);
    assert_eq!(after.read_file(data_fs()).unwrap(), b"data");
    after.open(data_fs(), Open::ReadWrite).unwrap().write_at(b"x", 0).unwrap();
    assert!(file.read_at(&mut [0], 0).is_err(), "a handle stays with its disk");
}

#[test]
fn a_power_cut_is_recognized_inside_other_errors_and_nothing_else_is() {
    let disk = SimDisk::new(0);
    disk.stop_at(0, Tear::NotAtAll);
    let cut = disk.remove(data_fs()).unwrap_err();
    assert_eq!(cut.to_string(), "the simulated power is off");
    let wrapped = io::Error::new(ErrorKind::InvalidData, io::Error::other(cut));
    assert!(is_power_cut(&wrapped));
    assert!(!is_power_cut(&io::Error::other("the simulated power is off")));
    assert!(!is_power_cut(&io::Error::from_raw_os_error(5)));
}

#[test]
fn a_write_that_the_power_cut_tore_left_whole_sectors_of_it() {
    let mut kept_sets = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        disk.write_file(data_fs(), &[1; 2048]);
        let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
        disk.stop_at(0, Tear::Partly);
        file.write_at(&[2; 1500], 300).unwrap_err();
        let bytes = disk.read_file(data_fs()).unwrap();
        let pieces = [300..512, 512..1024, 1024..1536, 1536..1800];
        let kept: Vec<bool> = pieces.iter().map(|piece| bytes[piece.start] == 2).collect();
        for (piece, kept) in pieces.into_iter().zip(&kept) {
            assert!(bytes[piece].iter().all(|&byte| (byte == 2) == *kept));
        }
        assert!(bytes[..300].iter().chain(&bytes[1800..]).all(|&byte| byte == 1));
        assert_eq!(disk.crash_losing_everything().read_file(data_fs()).unwrap(), [1; 2048]);
        kept_sets.insert(kept);
    }
    assert_eq!(kept_sets.len(), 16, "any of the pieces");
}

#[test]
fn a_sync_in_which_the_power_went_off_is_done_or_not_as_told() {
    let saved = |seed, tear| {
        let disk = SimDisk::new(seed);
        disk.write_file(data_fs(), &[1; 1024]);
        let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
        file.write_at(&[2; 1024], 0).unwrap();
        disk.stop_at(1, tear);
        assert!(is_power_cut(&file.sync().unwrap_err()));
        disk.crash_losing_everything().read_file(data_fs()).unwrap()
    };
    assert_eq!(saved(0, Tear::NotAtAll), [1; 1024]);
    assert_eq!(saved(0, Tear::Wholly), [2; 1024]);
    let partly: BTreeSet<Vec<u8>> = (0..100).map(|seed| saved(seed, Tear::Partly)).collect();
    assert_eq!(partly.len(), 4, "either sector, none or both");
}

#[test]
fn one_operation_fails_as_told_and_the_next_one_works() {
    for operation in 0..7 {
        for partial in [false, true] {
            let disk = disk(3);
            disk.fail_at(operation, ErrorKind::StorageFull, partial);
            let error = history(&disk).unwrap_err();
            assert_eq!((error.kind(), is_power_cut(&error)), (ErrorKind::StorageFull, false));
            assert_eq!(disk.operations(), operation + 1);
            let reference = self::disk(3);
            reference.stop_at(operation, Tear::NotAtAll);
            let _ = history(&reference);
            if !partial {
                assert_eq!(seen(&disk), seen(&reference));
            }
            disk.write_file("Data.fs.old", b"old");
            history(&disk).unwrap();
        }
    }
}

#[test]
fn a_failed_rename_may_have_been_done() {
    let disk = disk(0);
    disk.fail_at(0, ErrorKind::TimedOut, true);
    disk.rename(Path::new("Data.fs.old"), data_fs()).unwrap_err();
    assert_eq!(seen(&disk), [("Data.fs".to_owned(), b"old".to_vec())]);
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_saves_nothing() {
    let disk = SimDisk::new(0);
    disk.write_file(data_fs(), &[1; 1024]);
    let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
    file.write_at(&[2; 2048], 0).unwrap();
    disk.fail_at(disk.operations(), ErrorKind::Other, false);
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(disk.read_file(data_fs()).unwrap(), [2; 2048], "it is still read");
    let lost = disk.crash_losing_everything().read_file(data_fs()).unwrap();
    assert_eq!(lost, [[1; 1024], [0; 1024]].concat(), "the length is safe, the bytes are not");
    // Data that is written again is safe again.
    file.write_at(&[3; 512], 512).unwrap();
    file.sync().unwrap();
    let lost = disk.crash_losing_everything().read_file(data_fs()).unwrap();
    assert_eq!(lost, [[1; 512], [3; 512], [0; 512], [0; 512]].concat());
}

#[test]
fn a_failed_sync_can_be_repeated_where_the_test_wants_it() {
    let disk = SimDisk::new(0);
    disk.failed_sync_forgets(false);
    disk.write_file(data_fs(), b"old");
    let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
    file.write_at(b"new", 0).unwrap();
    disk.fail_at(disk.operations(), ErrorKind::Other, false);
    file.sync().unwrap_err();
    assert_eq!(disk.crash_losing_everything().read_file(data_fs()).unwrap(), b"old");
    file.sync().unwrap();
    assert_eq!(disk.crash_losing_everything().read_file(data_fs()).unwrap(), b"new");
}

#[test]
fn a_sync_that_failed_in_part_saved_some_sectors() {
    let saved: BTreeSet<Vec<u8>> = (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.write_file(data_fs(), &[1; 1024]);
            let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
            file.write_at(&[2; 1024], 0).unwrap();
            disk.fail_at(1, ErrorKind::Other, true);
            file.sync().unwrap_err();
            disk.crash_losing_everything().read_file(data_fs()).unwrap()
        })
        .collect();
    let of = |a, b| [[a; 512], [b; 512]].concat();
    assert_eq!(saved, BTreeSet::from([of(1, 1), of(1, 2), of(2, 1), of(2, 2)]));
}

#[test]
fn a_directory_sync_that_failed_in_part_saved_the_first_changes_and_can_be_repeated() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        for name in ["a", "b"] {
            disk.open(Path::new(name), Open::CreateNew).unwrap();
        }
        disk.fail_at(2, ErrorKind::Other, true);
        disk.sync_directory(data_fs()).unwrap_err();
        seen.insert(disk.crash_losing_everything().paths());
        disk.sync_directory(data_fs()).unwrap();
        assert_eq!(disk.crash_losing_everything().paths().len(), 2);
    }
    assert_eq!(seen, BTreeSet::from([vec![], vec!["a".into()], vec!["a".into(), "b".into()]]));
}

#[test]
fn a_full_disk_takes_what_fits_and_the_rest_after_something_went_away() {
    let disk = SimDisk::new(0);
    disk.write_file(data_fs(), &[1; 600]);
    disk.write_file("Data.fs.old", &[1; 300]);
    disk.set_capacity(Some(1000));
    let file = disk.open(data_fs(), Open::ReadWrite).unwrap();
    file.write_at(&[2; 600], 0).unwrap(); // needs no room
    let error = file.write_at(&[3; 200], 550).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read_file(data_fs()).unwrap(), [[2; 550].as_slice(), &[3; 150]].concat());
    assert_eq!(file.write_at(&[4; 10], 5000).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(701).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 700);
    let scratch = disk.scratch(data_fs()).unwrap();
    assert!(scratch.write_at(b"x", 0).is_err());
    // A removed file takes room until its last handle is gone.
    let old = disk.open(Path::new("Data.fs.old"), Open::Read).unwrap();
    disk.remove(Path::new("Data.fs.old")).unwrap();
    assert!(scratch.write_at(b"x", 0).is_err());
    drop(old);
    scratch.write_at(&[5; 200], 0).unwrap();
    assert!(file.set_len(801).is_err());
    drop(scratch);
    file.set_len(1000).unwrap();
    assert!(disk.crash(0).open(data_fs(), Open::ReadWrite).unwrap().set_len(1001).is_err(), "the disk stays small");
}

#[test]
fn a_wild_position_is_an_error() {
    let disk = SimDisk::new(0);
    let file = disk.open(data_fs(), Open::CreateNew).unwrap();
    for offset in [1 << 40, u64::MAX] {
        assert_eq!(file.write_at(b"x", offset).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.set_len(offset).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.read_at(&mut [0], offset).unwrap(), 0);
    }
    assert_eq!(file.len().unwrap(), 0);
}

#[test]
fn short_reads_give_at_least_one_byte_and_the_same_each_time() {
    let lengths = |seed: u64| -> Vec<usize> {
        let disk = SimDisk::new(seed);
        disk.write_file(data_fs(), &[1; 100]);
        disk.short_reads(true);
        let file = disk.open(data_fs(), Open::Read).unwrap();
        (0..500).map(|_| file.read_at(&mut [0; 40], 50).unwrap()).collect()
    };
    let seen: BTreeSet<usize> = lengths(1).into_iter().collect();
    assert_eq!(seen, (1..=40).collect());
    assert_eq!(lengths(1), lengths(1));
    assert_ne!(lengths(1), lengths(2));
}

#[test]
fn a_bad_sector_fails_what_touches_it_under_any_name_and_after_any_crash() {
    let disk = SimDisk::new(0);
    disk.write_file(data_fs(), &[1; 2000]);
    disk.read_fail(data_fs(), 512..1024);
    let moved = Path::new("Data.fs.old");
    disk.rename(data_fs(), moved).unwrap();
    disk.sync_directory(moved).unwrap();
    for disk in [disk.clone(), disk.crash(1)] {
        let file = disk.open(moved, Open::Read).unwrap();
        let read = |from: u64, length: usize| file.read_at(&mut vec![0; length], from);
        assert_eq!(read(0, 512).unwrap(), 512);
        assert_eq!(read(1024, 5000).unwrap(), 976);
        assert_eq!(read(700, 0).unwrap(), 0);
        let error = read(511, 2).unwrap_err();
        assert!(error.to_string().contains("512 to 1024"), "{error}");
        assert!(read(1023, 1).is_err() && read(600, 10).is_err() && read(0, 2000).is_err());
    }
}

#[test]
fn the_trace_tells_the_last_operations() {
    let disk = disk(0);
    disk.keep_trace(3);
    disk.fail_at(6, ErrorKind::TimedOut, false);
    history(&disk).unwrap_err();
    let expected = [
        "   4 rename Data.fs.pack to Data.fs",
        "   5 sync_directory of Data.fs",
        "   6 remove Data.fs.old: done NotAtAll: operation 6 of the simulated disk was told to fail",
    ];
    assert_eq!(disk.trace(), expected);
    let quiet = SimDisk::new(0);
    quiet.sync_directory(data_fs()).unwrap();
    assert!(quiet.trace().is_empty());
}

#[test]
fn a_reader_cannot_write() {
    let disk = disk(0);
    let file = disk.open(Path::new("Data.fs.old"), Open::Read).unwrap();
    assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
    assert_eq!((disk.operations(), file.len().unwrap()), (0, 3));
}

#[test]
fn many_threads_share_a_disk() {
    let disk = SimDisk::new(0);
    let file = disk.open(data_fs(), Open::CreateNew).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (file, disk) = (file.clone(), disk.clone());
            scope.spawn(move || {
                for round in 0..100 {
                    file.write_at(&[thread; 16], u64::from(thread) * 1600 + round * 16).unwrap();
                    file.sync().unwrap();
                    disk.crash(round);
                }
            });
        }
    });
    let expected: Vec<u8> = (0..8).flat_map(|thread| [thread; 1600]).collect();
    assert_eq!(disk.read_file(data_fs()).unwrap(), expected);
    assert!(disk.crash_losing_everything().paths().is_empty() && disk.operations() == 1 + 8 * 200);
}
