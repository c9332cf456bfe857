//! From a file to tables and back: the databases that ZODB wrote come back as they come from a copy of the
//! file, most of them byte for byte.

use std::path::Path;
use std::sync::Arc;

use vellum_disk::SimDisk;
use vellum_storage::{CopyOptions, Order, Storage, TidRange, TransactionRecord, copy};
use vellum_table::Options;

use crate::common::PATH;

fn told(storage: &dyn Storage) -> Vec<TransactionRecord> {
    storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap).collect()
}

#[test]
fn golden_databases_come_back_as_a_copy_of_the_file_would() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "fs") {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = vellum_file::FileStorage::open_read_only(&path).unwrap();
        let disk = Arc::new(SimDisk::new(0));
        let table = Options::new().disk(Arc::clone(&disk) as Arc<_>).create(PATH).unwrap();
        copy(&file, &table, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
        table.check(&mut |problem| panic!("{name}: {problem}")).unwrap();
        assert_eq!(told(&file), told(&table), "{name}");
        let options = vellum_file::Options::new().disk(Arc::clone(&disk) as Arc<_>);
        let back = options.create("Data.fs").unwrap();
        copy(&table, &back, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
        assert_eq!(told(&file), told(&back), "{name}");
        drop(back);
        // A copy of a file to a file does not keep these either: backpointers to backpointers, and the sources of
        // tombstones.
        let straight = options.create("straight.fs").unwrap();
        copy(&file, &straight, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
        drop(straight);
        let after = disk.read_file("Data.fs").unwrap();
        assert_eq!(after, disk.read_file("straight.fs").unwrap(), "{name}");
        names.push((name, after == std::fs::read(&path).unwrap()));
    }
    names.sort();
    println!("{names:?}");
    let same: Vec<_> = names.iter().filter(|(_, same)| *same).map(|(name, _)| &name[..]).collect();
    assert_eq!(same, ["mail.fs", "packed.fs", "unpacked.fs"], "{names:?}");
}
