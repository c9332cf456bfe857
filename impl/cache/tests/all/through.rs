//! A cache in front of another one: a revision is copied while both hear of changes.

use vellum_cache::{Changed, Core, Shape, Words};
use vellum_storage::{LoadedAt, Oid, Tid};

fn cache() -> Core<Words> {
    let shape = Shape { segments: 4, segment_bytes: 256, shards: 1, changes: 4 };
    Core::new(Words::new(4, 256), shape, Tid(1))
}

/// The changes arrive when the revision was found behind, and before it is kept in front.
#[test]
fn a_copy_is_judged_by_the_changes_since_before_the_look() {
    let (oid, found) = (Oid(1), LoadedAt { data: "one".into(), tid: Tid(1), next: None });
    for changed in [Changed::Any, Changed::Objects(&[oid])] {
        let (front, behind) = (cache(), cache());
        assert!(behind.store(behind.ask(), oid, &found));
        let copied = front.get_through(oid, Tid(2), || {
            let found = behind.get(oid, Tid(2));
            behind.verify(changed, Tid(5));
            front.verify(changed, Tid(5));
            found
        });
        assert_eq!(copied.as_ref(), Some(&found), "it is the state of that moment");
        assert_eq!(front.get_through(oid, Tid(6), || behind.get(oid, Tid(6))), None, "it is not current any more");
    }
}

/// The server is rolled back when a revision was found behind, and before it is kept in front.
#[test]
fn nothing_of_a_history_that_is_gone_is_kept() {
    let oid = Oid(1);
    for next in [None, Some(Tid(9))] {
        let found = LoadedAt { data: "gone".into(), tid: Tid(7), next };
        let (front, behind) = (cache(), cache());
        let both = [&behind, &front];
        both.iter().for_each(|cache| cache.verify(Changed::Any, Tid(10)));
        assert!(behind.store(behind.ask(), oid, &found));
        let copied = front.get_through(oid, Tid(9), || {
            let found = behind.get(oid, Tid(9));
            both.iter().for_each(|cache| cache.clear(Tid(5)));
            found
        });
        assert_eq!(copied.as_ref(), Some(&found), "it was so when it was asked for");
        // The new history has come as far.
        both.iter().for_each(|cache| cache.verify(Changed::Objects(&[]), Tid(10)));
        assert_eq!(front.get(oid, Tid(9)), None);
    }
}
