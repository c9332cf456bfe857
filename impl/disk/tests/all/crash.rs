//! The contents that a crash of the simulated disk leaves in a file.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use vellum_disk::{Disk, DiskFile, Open, SimDisk};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, length: usize, byte: u8 },
    SetLen(usize),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4000usize, 1..1600usize, 1..=255u8)
            .prop_map(|(offset, length, byte)| Step::Write { offset, length, byte }),
        2 => (0..5000usize).prop_map(Step::SetLen),
        1 => Just(Step::Sync),
    ]
}

/// All states of the file since it was last synced, kept in full.
struct History(Vec<Vec<u8>>);

impl History {
    fn play(file: &dyn DiskFile, steps: &[Step]) -> Self {
        let mut history = History(vec![Vec::new()]);
        for step in steps {
            let mut state = history.0.last().unwrap().clone();
            match *step {
                Step::Write { offset, length, byte } => {
                    file.write_at(&vec![byte; length], offset as u64).unwrap();
                    state.resize(state.len().max(offset + length), 0);
                    state[offset..offset + length].fill(byte);
                }
                Step::SetLen(length) => {
                    file.set_len(length as u64).unwrap();
                    state.resize(length, 0);
                }
                Step::Sync => {
                    file.sync().unwrap();
                    history.0.clear();
                }
            }
            history.0.push(state);
        }
        history
    }

    /// The contents of sector `number` in each state, as if zeros followed the file.
    fn sector(&self, number: usize) -> BTreeSet<Vec<u8>> {
        self.0.iter().map(|state| sector_of(state, number)).collect()
    }

    fn lengths(&self) -> BTreeSet<usize> {
        self.0.iter().map(Vec::len).collect()
    }

    fn check(&self, found: &[u8], torn_sectors: bool) {
        let lengths = self.lengths();
        let between = *lengths.first().unwrap()..=*lengths.last().unwrap();
        let cut = found.len().is_multiple_of(SECTOR) && between.contains(&found.len());
        assert!(lengths.contains(&found.len()) || cut, "length {} of {lengths:?}", found.len());
        for number in 0..found.len().div_ceil(SECTOR) {
            let visible = (found.len() - number * SECTOR).min(SECTOR);
            let part = &sector_of(found, number)[..visible];
            let states = self.sector(number);
            let whole = states.iter().any(|state| state.starts_with(part));
            let torn = || {
                let begins = |cut: usize| states.iter().any(|state| state.starts_with(&part[..cut]));
                let ends = |cut: usize| states.iter().any(|state| state[cut..].starts_with(&part[cut..]));
                (0..part.len()).any(|cut| begins(cut) && ends(cut))
            };
            assert!(whole || torn_sectors && torn(), "sector {number} is in a state it has never been in");
        }
    }
}

fn sector_of(state: &[u8], number: usize) -> Vec<u8> {
    let mut sector = vec![0; SECTOR];
    let part: Vec<u8> = state.iter().copied().skip(number * SECTOR).take(SECTOR).collect();
    sector[..part.len()].copy_from_slice(&part);
    sector
}

fn data_fs() -> &'static Path {
    Path::new("Data.fs")
}

/// A disk with one file whose name is safe.
fn disk() -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(0);
    let file = disk.open(data_fs(), Open::CreateNew).unwrap();
    disk.sync_directory(data_fs()).unwrap();
    (disk, file)
}

fn found(disk: &SimDisk) -> Vec<u8> {
    disk.read_file(data_fs()).unwrap()
}

/// The results of crashes with many seeds.
fn outcomes(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
    (0..2000).map(|seed| found(&disk.crash(seed))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn each_sector_is_found_in_a_state_it_has_been_in_since_the_last_sync(
        steps in prop::collection::vec(step(), 0..20), seed: u64, torn_sectors: bool,
    ) {
        let (disk, file) = disk();
        disk.tear_sectors(torn_sectors);
        let history = History::play(file.as_ref(), &steps);
        for round in 0..8 {
            history.check(&found(&disk.crash(seed ^ round)), torn_sectors);
        }
        prop_assert_eq!(&found(&disk.crash_losing_everything()), history.0.first().unwrap());
        prop_assert_eq!(&found(&disk.crash_keeping_everything()), history.0.last().unwrap());
        prop_assert_eq!(&found(&disk), history.0.last().unwrap(), "a crash disturbed the disk that it came from");
    }

    #[test]
    fn synced_bytes_survive_every_crash(steps in prop::collection::vec(step(), 0..20), seed: u64) {
        let (disk, file) = disk();
        History::play(file.as_ref(), &steps);
        file.sync().unwrap();
        prop_assert!(disk.is_durable(data_fs()));
        prop_assert_eq!(found(&disk.crash(seed)), found(&disk));
        // Nor are they harmed by writes a sector behind them.
        let end = file.len().unwrap().next_multiple_of(SECTOR as u64);
        file.set_len(end).unwrap();
        file.sync().unwrap();
        file.write_at(&[7; 3000], end).unwrap();
        prop_assert!(!disk.is_durable(data_fs()));
        prop_assert_eq!(&found(&disk.crash(seed))[..end as usize], &found(&disk)[..end as usize]);
    }

    #[test]
    fn the_same_seed_leaves_the_same_bytes_and_all_of_them_are_durable(
        steps in prop::collection::vec(step(), 0..20), seed: u64,
    ) {
        let run = || {
            let (disk, file) = disk();
            disk.tear_sectors(true);
            History::play(file.as_ref(), &steps);
            disk.crash(seed)
        };
        let after = run();
        prop_assert_eq!(found(&run()), found(&after));
        prop_assert!(after.is_durable(data_fs()));
        prop_assert_eq!(found(&after.crash(!seed)), found(&after));
    }
}

/// Crashes that would be missed if chance were kind: each must be among the outcomes.
#[test]
fn sometimes_the_worst_happens() {
    let (disk, file) = disk();
    file.write_at(&[1; 3 * SECTOR], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; 3 * SECTOR], 0).unwrap();
    file.write_at(&[3; 3 * SECTOR], 0).unwrap();
    let of = |bytes: [u8; 3]| bytes.iter().flat_map(|&byte| [byte; SECTOR]).collect::<Vec<u8>>();
    let outcomes = outcomes(&disk);
    for (a, b, c) in (0..27).map(|n| (n / 9 + 1, n / 3 % 3 + 1, n % 3 + 1)) {
        assert!(outcomes.contains(&of([a, b, c])), "never {a} {b} {c}");
    }
    assert_eq!(outcomes.len(), 27);
}

#[test]
fn sometimes_a_file_has_its_new_length_and_not_its_new_bytes_and_sometimes_less() {
    let (disk, file) = disk();
    file.write_at(&[1; 100], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; 2000], 100).unwrap();
    let outcomes = outcomes(&disk);
    let mut holes = vec![1; 100];
    holes.resize(2100, 0);
    assert!(outcomes.contains(&holes), "never the length without the bytes");
    let lengths: BTreeSet<usize> = outcomes.iter().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([100, 512, 1024, 1536, 2048, 2100]));
}

#[test]
fn sometimes_all_but_one_of_many_sectors_survive_and_sometimes_only_one() {
    let (disk, file) = disk();
    let sectors = 50;
    file.set_len((sectors * SECTOR) as u64).unwrap();
    file.sync().unwrap();
    file.write_at(&vec![1; sectors * SECTOR], 0).unwrap();
    let kept = |bytes: &Vec<u8>| bytes.chunks(SECTOR).filter(|sector| sector[0] == 1).count();
    let counts: BTreeSet<usize> = outcomes(&disk).iter().map(kept).collect();
    for count in [0, 1, sectors / 2, sectors - 1, sectors] {
        assert!(counts.contains(&count), "never {count} of {sectors}: {counts:?}");
    }
}

#[test]
fn sometimes_the_disk_just_stops() {
    // Thirty writes, of which the first few survive, and none after the first that is lost.
    let (disk, file) = disk();
    let writes = 30;
    file.set_len((writes * SECTOR) as u64).unwrap();
    file.sync().unwrap();
    for write in 0..writes {
        file.write_at(&[1; SECTOR], (write * SECTOR) as u64).unwrap();
    }
    let in_order = |bytes: &Vec<u8>| bytes.chunks(SECTOR).is_sorted_by(|a, b| a[0] >= b[0]);
    let outcomes = outcomes(&disk);
    let prefixes: Vec<&Vec<u8>> = outcomes.iter().filter(|bytes| in_order(bytes)).collect();
    assert_eq!(prefixes.len(), writes + 1, "each number of writes, none and all included");
    assert!(outcomes.len() > prefixes.len(), "never out of order");
}

#[test]
fn a_sector_is_torn_only_where_the_test_wants_it() {
    let (disk, file) = disk();
    file.write_at(&[1; SECTOR], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; SECTOR], 0).unwrap();
    assert_eq!(outcomes(&disk).len(), 2);
    disk.tear_sectors(true);
    let torn = outcomes(&disk);
    assert!(torn.len() > 50, "{} outcomes", torn.len());
    assert!(torn.iter().all(|bytes| bytes.is_sorted_by(|a, b| a >= b)), "new content first, then old");
}

#[test]
fn a_sector_that_is_written_very_often_still_has_its_first_and_its_last_state() {
    let (disk, file) = disk();
    file.write_at(&[7], 0).unwrap();
    file.sync().unwrap();
    for count in 0..100_000u32 {
        file.write_at(&count.to_be_bytes(), 0).unwrap();
    }
    assert_eq!(found(&disk.crash_losing_everything()), [7]);
    assert_eq!(found(&disk.crash_keeping_everything()), 99_999u32.to_be_bytes());
    assert!(outcomes(&disk).len() > 20);
}

#[test]
fn a_file_is_durable_only_while_all_its_bytes_are() {
    let (disk, file) = disk();
    file.write_at(&[1; 2000], 0).unwrap();
    assert!(!disk.is_durable(data_fs()), "longer");
    file.sync().unwrap();
    assert!(disk.is_durable(data_fs()));
    file.write_at(&[2; 2], 1000).unwrap();
    assert!(!disk.is_durable(data_fs()), "overwritten in place");
}

#[test]
fn truncating_is_undone_by_a_crash_until_it_is_synced() {
    let (disk, file) = disk();
    file.write_at(&[1; 2000], 0).unwrap();
    file.sync().unwrap();
    disk.open(data_fs(), Open::Truncate).unwrap();
    assert_eq!(found(&disk), []);
    assert_eq!(found(&disk.crash_losing_everything()), [1; 2000]);
    file.write_at(&[2; 10], 1000).unwrap();
    file.sync().unwrap();
    assert_eq!(found(&disk.crash_losing_everything()), [[0; 1000].as_slice(), &[2; 10]].concat());
}
