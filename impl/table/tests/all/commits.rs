//! Commits that come together.

use std::sync::Arc;

use vellum_disk::SimDisk;
use vellum_storage::{Error, Oid, Refusal, Tid, TransactionMeta, Version, Voted};
use vellum_table::Options;

use crate::common::PATH;

/// One that cannot be finished takes no other with it, wherever it is among them.
#[test]
fn of_those_that_share_a_step_each_fails_alone() {
    for wrong in 0..4 {
        let storage = Options::new().disk(Arc::new(SimDisk::new(0))).create(PATH).unwrap();
        let vote = |n: u64| {
            let tid = if n == wrong { Tid(1) } else { Tid(10 + n) };
            let mut draft = storage.begin(TransactionMeta::new().tid(tid)).unwrap();
            draft.store(Oid(n), Tid::ZERO, format!("record {n}").into()).unwrap();
            storage.vote(draft).unwrap()
        };
        let voted: Vec<Voted> = (0..4).map(vote).collect();
        // The first one may have any tid.
        let is_wrong = |n: u64| n == wrong && n > 0;
        for (n, outcome) in Voted::finish_all(voted).into_iter().enumerate() {
            match outcome {
                Ok(_) => assert!(!is_wrong(n as u64)),
                Err(Error::Refused(Refusal::TidNotLater { .. })) => assert!(is_wrong(n as u64)),
                Err(other) => panic!("{other}"),
            }
        }
        for n in 0..4 {
            let loaded = storage.load(Oid(n), &Version::TRUNK).map(|loaded| loaded.data);
            match is_wrong(n) {
                true => assert!(matches!(loaded, Err(Error::KeyError { .. }))),
                false => assert_eq!(loaded.unwrap(), format!("record {n}")),
            }
        }
        storage.check(&mut |problem| panic!("{problem}")).unwrap();
    }
}

/// A full disk: the commit fails, nothing of it is there after the next opening, and what was acknowledged is.
#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    for room in (80_000..400_000).step_by(20_000) {
        let disk = SimDisk::new(0);
        let options = Options::new().disk(Arc::new(disk.clone()));
        let storage = options.create(PATH).unwrap();
        disk.set_capacity(Some(room));
        let mut acknowledged = Vec::new();
        let mut said = None;
        for oid in (1..200).map(Oid) {
            let commit = || {
                let mut draft = storage.begin(TransactionMeta::new())?;
                draft.store(oid, Tid::ZERO, vec![b'x'; 2000].into())?;
                storage.commit(draft)
            };
            match commit() {
                Ok(_) => acknowledged.push(oid),
                Err(error) => {
                    said = Some(error.to_string());
                    break;
                }
            }
        }
        let said = said.expect("the disk is too small for all");
        assert!(said.contains(PATH), "{said}");
        assert!(matches!(storage.begin(TransactionMeta::new()), Err(Error::Failed { .. })), "{said}");
        drop(storage);
        disk.set_capacity(None);
        let storage = options.open(PATH).unwrap();
        storage.check(&mut |problem| panic!("{problem}")).unwrap();
        for oid in &acknowledged {
            storage.load(*oid, &Version::TRUNK).unwrap();
        }
    }
}
