//! Folders appear and disappear under many threads, and no blob disturbs another.

use std::thread;

use crate::common::{all, bytes, commit, open_on, place};
use vellum_blob::Opening;
use vellum_disk::SimDisk;
use vellum_storage::Oid;

#[test]
fn threads_that_commit_and_take_back_do_not_meet() {
    let disk = SimDisk::new(0);
    let folder = open_on(&disk, Opening::default()).unwrap();
    thread::scope(|scope| {
        for worker in 1..=6u64 {
            let folder = &folder;
            scope.spawn(move || {
                for round in 1..=60 {
                    // All objects share all folders but the last, which most of these rounds empty.
                    let this = place(round % 3, worker << 32 | round);
                    commit(folder, this, format!("{worker} {round}").as_bytes()).unwrap();
                    if round % 20 != 0 {
                        assert_eq!(folder.remove(&[this]).unwrap(), 1);
                    }
                }
            });
        }
    });
    let found = open_on(&disk.crash_losing_everything(), Opening::default()).unwrap();
    let (blobs, strangers) = all(&found);
    assert_eq!((blobs.len(), strangers), (18, Vec::new()));
    for (oid, tid) in blobs.into_keys() {
        assert_eq!(bytes(&found, (oid, tid)).unwrap(), format!("{} {}", tid.0 >> 32, tid.0 & 0xff).as_bytes());
        assert!(oid < Oid(3));
    }
}
