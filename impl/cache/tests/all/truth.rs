//! The core against the truth: whatever a server commits, whenever its answers and messages arrive, each state that the
//! cache returns is the one of its moment.

use bytes::Bytes;
use proptest::prelude::*;
use vellum_cache::{Core, Medium, Shape, Words};
use vellum_storage::{LoadedAt, Oid, Tid};

use crate::world::{World, step};

const SEGMENT_BYTES: u32 = 256;

proptest! {
    #[test]
    fn each_state_is_that_of_its_moment(
        steps in prop::collection::vec((step(), prop::collection::vec(1_000..1_016_u64, 0..4)), 0..120),
        changes in prop_oneof![Just(2_usize), Just(100)],
        segments in 3..6_u32,
    ) {
        let shape = Shape { segments, segment_bytes: SEGMENT_BYTES, shards: 2, changes };
        let mut world = World::new(Core::new(Words::new(segments, SEGMENT_BYTES), shape, Tid(1)));
        for (step, crowd) in &steps {
            world.step(step);
            // Objects that never change take the room of the others, and come again.
            for oid in crowd {
                let found = LoadedAt { data: vec![7; 30].into(), tid: Tid(1), next: None };
                world.cache.store(world.cache.ask(), Oid(*oid), &found);
            }
            world.check();
        }
    }

    #[test]
    fn a_state_that_was_stored_is_found(oid in 0..1_000_u64, tid in 1..50_u64, size in 0..4_000_usize, ended in any::<bool>()) {
        let shape = Shape::of_bytes(1 << 20);
        let cache = Core::new(Words::new(shape.segments, shape.segment_bytes), shape, Tid(50));
        let next = ended.then_some(Tid(tid + 3));
        let found = LoadedAt { data: vec![7; size].into(), tid: Tid(tid), next };
        prop_assert!(cache.store(cache.ask(), Oid(oid), &found));
        prop_assert_eq!(cache.get(Oid(oid), Tid(tid + 1)), Some(found.clone()));
        prop_assert_eq!(cache.get(Oid(oid), Tid(tid)), None);
        prop_assert_eq!(cache.get(Oid(oid), Tid(51)).is_some(), !ended || tid + 3 >= 51);
        prop_assert_eq!(cache.get(Oid(oid), Tid(52)), None, "of that moment nothing is known");
        prop_assert!(cache.index_bytes() > 0 && cache.len() == 1);
    }
}

#[test]
fn records_that_are_used_stay_longer() {
    let shape = Shape { segments: 8, segment_bytes: 4 << 10, shards: 4, changes: 10 };
    let cache = Core::new(Words::new(8, 4 << 10), shape, Tid(1));
    let found = LoadedAt { data: vec![1; 100].into(), tid: Tid(1), next: None };
    for oid in 0..10_000 {
        assert!(cache.store(cache.ask(), Oid(oid), &found));
        assert!(cache.get(Oid(0), Tid(2)).is_some(), "lost after {oid} others");
    }
    assert!(cache.get(Oid(1), Tid(2)).is_none());
    let records = 8 * (4 << 10) / u64::from(Words::HEADER_BYTES + 104);
    assert!((records / 2..=records).contains(&(cache.len() as u64)), "{} of {records}", cache.len());
}

#[test]
fn threads_read_while_another_writes() {
    let shape = Shape { segments: 4, segment_bytes: 4 << 10, shards: 4, changes: 100 };
    let cache = Core::new(Words::new(4, 4 << 10), shape, Tid(1));
    let bytes = |oid: u64| Bytes::from(vec![oid as u8; 40 + (oid % 60) as usize]);
    let found = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..200_000_u64 {
                    let oid = n * 7 % 200;
                    if let Some(LoadedAt { data, .. }) = cache.get(Oid(oid), Tid(2)) {
                        assert_eq!(data, bytes(oid));
                        found.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
        scope.spawn(|| {
            for n in 0..100_000_u64 {
                let oid = n * 13 % 200;
                cache.store(cache.ask(), Oid(oid), &LoadedAt { data: bytes(oid), tid: Tid(1), next: None });
            }
        });
    });
    assert!(found.into_inner() > 1_000);
}
