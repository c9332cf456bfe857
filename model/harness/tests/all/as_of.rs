//! The past, as a storage, answers what the storage answered then.

use crate::past;
use std::sync::Arc;

use crate::past::{compare, play, tids, truncated};
use vellum_harness::subject::Can;
use vellum_storage::{AsOf, Error, Oid, Storage, Tid, TransactionMeta};

/// Every moment of a history; of one that was packed, those since the pack.
fn hold(can: Can, cases: u64, length: usize) -> (u64, u64) {
    let (mut moments, mut asked) = (0, 0);
    for case in 0..cases {
        let past = play(case, can, length);
        let (database, known) = (&past.world.database, &past.world.known);
        let storage: Arc<dyn Storage> = Arc::new(past.rules);
        let all = tids(&past.world);
        // Also the moments just after and just before each transaction, and one in the future.
        let between = all.iter().map(|tid| Tid(tid.0 + 1)).chain(all.iter().copied()).chain([Tid::MAX]);
        for at in between.filter(|at| at.0 >= database.packed_to()) {
            let (view, then) = (AsOf::new(Arc::clone(&storage), at).unwrap(), truncated(database, at));
            let what = format!("case {case} as of {at}");
            asked += compare(&view, &then, can, known, &what);
            assert_eq!(view.object_count(), then.oids().len() as u64, "{what}");
            let own = then.transactions.iter().flat_map(|t| &t.revisions);
            let own =
                own.map(|r| if let vellum_spec::Content::Data(data) = &r.content { data.len() as u64 } else { 0 });
            assert_eq!(view.size(), own.sum::<u64>(), "{what}");
            // Again, as now there is a table.
            compare(&view, &then, can, known, &what);
            moments += 1;
        }
    }
    (moments, asked)
}

/// Rule 2.2.
#[test]
fn every_moment_answers_as_it_did() {
    let (moments, asked) = hold(Can { pack: false, ..Can::EVERYTHING }, 500, 30);
    println!("{moments} moments, {asked} answers");
    assert!(moments > 5000);
}

/// Rule 4.5.
#[test]
fn after_a_pack_every_moment_since_answers_as_it_did() {
    let (moments, asked) = hold(Can::EVERYTHING, 500, 40);
    println!("{moments} moments, {asked} answers");
    assert!(moments > 1000);
}

#[test]
fn the_past_is_read_only() {
    let past = play(1, Can::EVERYTHING, 30);
    let view = AsOf::new(Arc::new(past.rules), Tid::MAX).unwrap();
    assert!(matches!(view.begin(TransactionMeta::new()), Err(Error::ReadOnly { .. })));
    assert!(matches!(view.new_oids(1), Err(Error::ReadOnly { .. })));
}

#[test]
fn what_comes_later_does_not_show() {
    let rules = past::empty();
    let store = |serial: Tid, data: &'static str| {
        let mut change = rules.begin(TransactionMeta::new()).unwrap();
        change.store(Oid::ROOT, serial, data.into()).unwrap();
        rules.vote(change).unwrap().finish().unwrap()
    };
    let first = store(Tid::ZERO, "one");
    let view = AsOf::new(Arc::new(rules.clone()), Tid::MAX).unwrap();
    let walk = view.current_records(Oid::ROOT);
    store(first, "two");
    assert_eq!(view.load(Oid::ROOT, &Default::default()).unwrap().data, "one");
    assert_eq!(walk.map(|r| r.unwrap().data).collect::<Vec<_>>(), ["one"]);
}
