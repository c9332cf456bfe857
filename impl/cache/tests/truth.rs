//! The core against the truth: whatever a server commits, whenever its answers and messages arrive, each state that the
//! cache returns is the one of its moment.

use bytes::Bytes;
use proptest::prelude::*;
use vellum_cache::{Asked, Changed, Core, Medium, Shape, Words};
use vellum_storage::{LoadedAt, Oid, Tid};

const OBJECTS: u64 = 6;
const SEGMENTS: u32 = 4;
const SEGMENT_BYTES: u32 = 256;

#[derive(Clone, Debug)]
enum Step {
    /// The server commits a change of these objects.
    Commit(Vec<u64>),
    /// The client hears of the next transaction.
    Hear,
    /// The client asks for an object as of so many transactions ago; the answer is on its way.
    Ask(u64, usize),
    /// One of the answers arrives.
    Arrive(usize),
    /// Two of them arrive as a group.
    ArriveTogether(usize),
    /// The client was away, and hears of all changes at once.
    Verify { of_all: bool },
    /// The client drops everything.
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..OBJECTS, 1..3).prop_map(Step::Commit),
        3 => Just(Step::Hear),
        6 => (0..OBJECTS, 0..4_usize).prop_map(|(oid, ago)| Step::Ask(oid, ago)),
        6 => (0..8_usize).prop_map(Step::Arrive),
        1 => (0..8_usize).prop_map(Step::ArriveTogether),
        1 => any::<bool>().prop_map(|of_all| Step::Verify { of_all }),
        1 => Just(Step::Clear),
    ]
}

/// A server, and a client that is behind it.
struct World {
    /// The transactions: the first one is number 1, and created all objects.
    commits: Vec<Vec<u64>>,
    cache: Core<Words>,
    pending: Vec<(Asked, Oid, LoadedAt)>,
    checked: usize,
    found: usize,
}

fn data(oid: u64, tid: u64) -> Bytes {
    Bytes::from(format!("{oid} of {tid}, {}", "x".repeat((oid * tid % 5) as usize)))
}

impl World {
    fn new(changes: usize) -> World {
        let shape = Shape { segments: SEGMENTS, segment_bytes: SEGMENT_BYTES, shards: 2, changes };
        let cache = Core::new(Words::new(SEGMENTS, SEGMENT_BYTES), shape, Tid(1));
        World { commits: vec![(0..OBJECTS).collect()], cache, pending: Vec::new(), checked: 0, found: 0 }
    }

    fn last(&self) -> u64 {
        self.commits.len() as u64
    }

    fn changes(&self, oid: u64) -> impl Iterator<Item = u64> + '_ {
        (1..=self.last()).zip(&self.commits).filter(move |(_, oids)| oids.contains(&oid)).map(|(tid, _)| tid)
    }

    /// The server's answer.
    fn load(&self, oid: u64, before: u64) -> Option<LoadedAt> {
        let tid = self.changes(oid).filter(|tid| *tid < before).last()?;
        let next = self.changes(oid).find(|next| *next > tid).map(Tid);
        Some(LoadedAt { data: data(oid, tid), tid: Tid(tid), next })
    }

    fn step(&mut self, step: &Step) {
        let head = self.cache.head().0;
        match step {
            Step::Commit(oids) => self.commits.push(oids.clone()),
            Step::Hear if head < self.last() => {
                let oids: Vec<Oid> = self.commits[head as usize].iter().copied().map(Oid).collect();
                self.cache.invalidate(Tid(head + 1), &oids);
            }
            Step::Hear => {}
            Step::Ask(oid, ago) => {
                // A client asks as of a moment that it knows, or a server answers with what is newest.
                let before = if *ago == 3 { self.last() + 1 } else { (head + 1).saturating_sub(*ago as u64) };
                if let Some(found) = self.load(*oid, before) {
                    self.pending.push((self.cache.ask(), Oid(*oid), found));
                }
            }
            Step::Arrive(n) if *n < self.pending.len() => {
                let (asked, oid, found) = self.pending.swap_remove(*n);
                self.cache.store(asked, oid, &found);
            }
            Step::ArriveTogether(n) if n + 1 < self.pending.len() => {
                let group: Vec<_> = self.pending.drain(*n..n + 2).collect();
                // A group is as old as its oldest question.
                let asked = if group[0].0 == group[1].0 { group[0].0 } else { Asked::as_of(Tid(1)) };
                self.cache.store_all(asked, group.iter().map(|(_, oid, found)| (*oid, found)));
            }
            Step::Arrive(_) | Step::ArriveTogether(_) => {}
            Step::Verify { of_all } => {
                let last = Tid(self.last());
                let oids: Vec<Oid> = self.commits[head as usize..].iter().flatten().copied().map(Oid).collect();
                self.cache.verify(if *of_all { Changed::Any } else { Changed::Objects(&oids) }, last);
            }
            Step::Clear => self.cache.clear(self.cache.head()),
        }
    }

    fn check(&mut self) {
        let head = self.cache.head().0;
        for oid in 0..OBJECTS {
            for before in 1..=head + 2 {
                self.checked += 1;
                let Some(found) = self.cache.get(Oid(oid), Tid(before)) else { continue };
                self.found += 1;
                assert!(before <= head + 1, "an answer about the future");
                let right = self.load(oid, before).expect("the object exists");
                assert_eq!((&found.data, found.tid), (&right.data, right.tid), "{oid} before {before}, head {head}");
                let is_right = found.next.is_none_or(|next| {
                    next >= Tid(before) && right.next.is_none_or(|right| next <= right || right > Tid(head))
                });
                assert!(is_right, "{oid} before {before}, head {head}: {found:?}, and not {right:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn each_state_is_that_of_its_moment(
        steps in prop::collection::vec(step(), 0..120),
        changes in prop_oneof![Just(2_usize), Just(100)],
    ) {
        let mut world = World::new(changes);
        for step in &steps {
            world.step(step);
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
