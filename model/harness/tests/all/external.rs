//! Garbage in two databases, on random histories with everything in them: versions, undos, packs. Objects that could be
//! reached since the time are never garbage, and transactions since then can be undone as if nothing had gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::past::{play, tids};
use vellum_harness::dice::{Dice, Seed};
use vellum_harness::hosted::Merger;
use vellum_harness::node::Node;
use vellum_harness::rules::Rules;
use vellum_harness::subject::Can;
use vellum_spec::Database;
use vellum_storage::{
    DeleteGarbage, FindGarbage, Garbage, GarbageError, LostReference, ManualClock, Oid, Storage, Tid, TransactionMeta,
    Version, find_garbage,
};

/// The name that the harness's records call another database by is the second one's.
const NAMES: [&str; 2] = ["main", "other"];

type Object = (usize, Oid);

/// The database as a storage of its own.
fn storage(database: &Database) -> Rules {
    let clock = ManualClock::at("2030-01-01T00:00:00Z".parse().unwrap());
    Rules::new(database.clone(), Arc::new(clock), Arc::new(Merger), Node::references)
}

fn find<'a>(storages: &'a [Rules; 2], since: Tid) -> Result<Garbage<'a>, GarbageError> {
    let named = [0, 1].map(|n| (NAMES[n], &storages[n] as &dyn Storage));
    find_garbage(&named, FindGarbage::new().since(since).go_on(true))
}

/// The objects that could be reached when each database was as right after its moment.
fn reached(storages: &[Rules; 2], at: [Tid; 2]) -> BTreeSet<Object> {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![(0, Oid::ROOT), (1, Oid::ROOT)]);
    while let Some((n, oid)) = waiting.pop() {
        let Ok(Some(then)) = storages[n].load_before(oid, at[n].next()) else { continue };
        if seen.insert((n, oid)) {
            let node = Node::decode(&then.data).unwrap();
            waiting.extend(node.strong.into_iter().map(|to| (n, to)));
            waiting.extend(node.foreign.into_iter().map(|to| (1, to)));
        }
    }
    seen
}

/// Undoes one transaction, and says what leads nowhere after that.
fn lost_after_undo(storages: &[Rules; 2], (n, tid): (usize, Tid)) -> Option<Vec<LostReference>> {
    let mut change = storages[n].begin(TransactionMeta::new()).unwrap();
    change.undo(tid).ok()?;
    storages[n].vote(change).ok()?.finish().unwrap();
    Some(find(storages, Tid::MAX).ok()?.lost().iter().cloned().collect())
}

#[test]
fn what_could_be_reached_since_then_stays_and_what_was_done_since_can_be_undone() {
    let (mut looks, mut garbage_in_all, mut undone, mut moments) = (0, 0, 0, 0);
    for case in 0..2000 {
        let can = Can { untold: false, ..Can::EVERYTHING };
        let pasts = [play(2 * case, can, 25), play(2 * case + 1, can, 25)];
        let databases = [&pasts[0].world.database, &pasts[1].world.database];
        let before = databases.map(storage);
        let all: Vec<Tid> = pasts.iter().flat_map(|past| tids(&past.world)).collect();
        let mut dice = Seed(case);
        let since = all.get(dice.roll(all.len().max(1) as u64) as usize).copied().unwrap_or(Tid::MAX);
        let after = databases.map(storage);
        let Ok(found) = find(&after, since) else { continue };
        let garbage: BTreeSet<Object> = (0..2)
            .flat_map(|n| found.objects(n).map(move |object| (n, object.unwrap().oid)).collect::<Vec<_>>())
            .collect();
        looks += 1;
        garbage_in_all += garbage.len();

        // Of what a pack took the past from, only the moments since the pack are told.
        let told = |n: usize| {
            let known =
                tids(&pasts[n].world).into_iter().filter(move |tid| *tid >= since.max(Tid(databases[n].packed_to())));
            known.chain([since, Tid::MAX]).collect::<Vec<_>>()
        };
        for (one, other) in told(0).into_iter().flat_map(|one| told(1).into_iter().map(move |other| (one, other))) {
            let reached = reached(&before, [one, other]);
            assert!(reached.is_disjoint(&garbage), "case {case}, since {since}, at {one} and {other}");
            moments += 1;
        }

        let here: Vec<_> = found.found().iter().map(|found| found.garbage_objects).collect();
        let deletions = found.delete(&DeleteGarbage::new().objects_max(3)).unwrap();
        assert_eq!(deletions.iter().map(|deletions| deletions.objects).collect::<Vec<_>>(), here, "case {case}");
        for (n, past) in pasts.iter().enumerate() {
            for &oid in &past.world.known.oids {
                let [was, is] = [&before, &after].map(|all| all[n].load(oid, &Version::TRUNK).ok());
                let expected = was.filter(|_| !garbage.contains(&(n, oid)));
                assert_eq!(is, expected, "case {case}, {oid} of {}", NAMES[n]);
            }
        }

        for n in 0..2 {
            let log = before[n].undo_log().unwrap().undo_log(0, 100).unwrap();
            for tid in log.into_iter().map(|entry| entry.tid).filter(|tid| *tid > since) {
                let [one, other] = [0, 1].map(|n| storage(databases[n]));
                let right = lost_after_undo(&[one, other], (n, tid));
                let again = databases.map(storage);
                find(&again, since).unwrap().delete(&DeleteGarbage::default()).unwrap();
                let said = lost_after_undo(&again, (n, tid));
                assert_eq!(said, right, "case {case}, since {since}, undo of {tid} in {}", NAMES[n]);
                undone += usize::from(right.is_some());
            }
        }
    }
    println!("{looks} looks, {garbage_in_all} objects were garbage, {moments} moments, {undone} undos");
    assert!(looks > 200 && garbage_in_all > 200 && moments > 1000 && undone > 200);
}
