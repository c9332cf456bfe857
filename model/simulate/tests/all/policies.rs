//! The promises of every policy, on any order of uses and changes; and the simple ones beside slow references.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vellum_simulate::policies::{Clock, Definition, Fifo, Lru, Sieve, TinyLfu};
use vellum_simulate::policy::{Kind, NEVER, Policy, Request};

#[derive(Clone, Copy, Debug)]
enum Step {
    Use(u64),
    /// It arrives without being asked for.
    Arrive(u64),
    Change(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let oid = prop_oneof![0..12_u64, 0..60_u64];
    let step = prop_oneof![12 => oid.clone().prop_map(Step::Use), 1 => oid.clone().prop_map(Step::Arrive), 1 => oid.prop_map(Step::Change)];
    prop::collection::vec(step, 1..400)
}

/// The size of an object; each change makes it another one.
fn size(oid: u64, changes: u64) -> u32 {
    (oid * 37 % 200 + changes * 53 % 100) as u32
}

/// The steps with the objects that they are about, as the policies are asked for them.
fn requests(steps: &[Step], size: impl Fn(u64, u64) -> u32) -> Vec<(Step, Request)> {
    let mut changes = BTreeMap::<u64, u64>::new();
    let mut found = Vec::new();
    for step in steps {
        let (Step::Use(oid) | Step::Arrive(oid) | Step::Change(oid)) = *step;
        if let Step::Change(oid) = step {
            *changes.entry(*oid).or_default() += 1;
        }
        let size = size(oid, changes.get(&oid).copied().unwrap_or(0));
        found.push((*step, Request { oid, size, next: NEVER }));
    }
    let mut next = BTreeMap::<u64, u64>::new();
    let mut loads = found.iter().filter(|(step, _)| matches!(step, Step::Use(_))).count() as u64;
    for (step, request) in found.iter_mut().rev() {
        request.next = next.get(&request.oid).copied().unwrap_or(NEVER);
        match step {
            Step::Use(oid) => {
                next.insert(*oid, loads);
                loads -= 1;
            }
            Step::Change(oid) => drop(next.remove(oid)),
            Step::Arrive(_) => {}
        }
    }
    found
}

/// Plays the steps, and holds the policy to its promises after each; the hits.
fn play(policy: &mut dyn Policy, steps: &[Step], size: impl Fn(u64, u64) -> u32) -> u64 {
    let (mut here, mut hits) = (BTreeMap::<u64, u32>::new(), 0);
    for (step, request) in requests(steps, size) {
        let (mut evicted, before) = (Vec::new(), policy.has(request.oid));
        match step {
            Step::Use(oid) => {
                let is_hit = policy.access(request, &mut evicted);
                assert_eq!(is_hit, before, "a hit is an object that was here");
                hits += u64::from(is_hit);
                if policy.has(oid) {
                    here.insert(oid, request.size);
                }
            }
            Step::Arrive(oid) => {
                policy.put(request, &mut evicted);
                if policy.has(oid) {
                    here.insert(oid, request.size);
                }
            }
            Step::Change(oid) => {
                policy.invalidate(oid);
                assert!(!policy.has(oid), "a changed object is a miss");
                here.remove(&oid);
            }
        }
        for oid in evicted {
            assert!(!policy.has(oid), "an evicted object is a miss");
            here.remove(&oid);
        }
        for oid in 0..60 {
            assert_eq!(policy.has(oid), here.contains_key(&oid), "object {oid} came or went unannounced");
        }
        let bytes: u64 = here.values().map(|size| u64::from(*size)).sum();
        let (used, capacity) = (policy.used(), policy.capacity());
        assert!(used <= capacity, "{used} of {capacity}");
        assert!(bytes <= used, "{bytes} bytes in {used}");
    }
    hits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_policy_keeps_its_promises(steps in steps(), capacity in 700..6000_u64, header in prop_oneof![Just(0_u32), Just(40)]) {
        for kind in Kind::ALL {
            play(&mut *kind.of(capacity, header), &steps, size);
        }
        play(&mut TinyLfu::with(capacity, header, Definition::LibCacheSim), &steps, size);
    }

    #[test]
    fn no_policy_has_more_hits_than_belady_on_equal_sizes(steps in steps(), capacity in 700..6000_u64) {
        let steps: Vec<_> = steps.into_iter().filter(|step| !matches!(step, Step::Arrive(_))).collect();
        let of = |kind: Kind| play(&mut *kind.of(capacity, 0), &steps, |_, _| 100);
        let limit = of(Kind::Belady);
        for kind in Kind::ALL {
            prop_assert!(of(kind) <= limit, "{}: {} hits, and the limit is {limit}", kind.name(), of(kind));
        }
    }

    #[test]
    fn queues_are_those_of_slow_references(steps in steps(), capacity in 700..6000_u64) {
        beside(&mut Fifo::new(capacity, 0), &mut Slow::new(capacity, Order::Fifo), &steps);
        beside(&mut Lru::new(capacity, 0), &mut Slow::new(capacity, Order::Lru), &steps);
        beside(&mut Clock::new(capacity, 0), &mut Slow::new(capacity, Order::Clock), &steps);
        beside(&mut Sieve::new(capacity, 0), &mut Slow::new(capacity, Order::Sieve), &steps);
    }
}

/// The same hits and the same victims in the same order.
fn beside(policy: &mut dyn Policy, slow: &mut Slow, steps: &[Step]) {
    for (step, request) in requests(steps, size) {
        let mut evicted = [Vec::new(), Vec::new()];
        match step {
            Step::Use(_) => {
                let hits = (policy.access(request, &mut evicted[0]), slow.access(request, &mut evicted[1]));
                assert_eq!(hits.0, hits.1, "{step:?}");
            }
            Step::Arrive(_) => {
                policy.put(request, &mut evicted[0]);
                slow.put(request, &mut evicted[1]);
            }
            Step::Change(oid) => {
                policy.invalidate(oid);
                slow.objects.retain(|object| object.oid != oid);
                // The hand does not point behind the newest object.
                if !slow.objects.iter().any(|object| object.came > slow.hand) {
                    slow.hand = 0;
                }
            }
        }
        assert_eq!(evicted[0], evicted[1], "{step:?}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Fifo,
    Lru,
    Clock,
    Sieve,
}

#[derive(Clone, Copy)]
struct Object {
    oid: u64,
    size: u64,
    is_marked: bool,
    came: u64,
}

/// A list that is searched from its beginning each time.
struct Slow {
    objects: Vec<Object>,
    /// The hand of SIEVE is in front of the first object that came after this time.
    hand: u64,
    now: u64,
    capacity: u64,
    order: Order,
}

impl Slow {
    fn new(capacity: u64, order: Order) -> Slow {
        Slow { objects: Vec::new(), hand: 0, now: 0, capacity, order }
    }

    fn access(&mut self, request: Request, evicted: &mut Vec<u64>) -> bool {
        self.now += 1;
        let Some(at) = self.objects.iter().position(|object| object.oid == request.oid) else {
            self.put(request, evicted);
            return false;
        };
        self.objects[at].is_marked = true;
        if self.order == Order::Lru {
            let object = self.objects.remove(at);
            self.objects.push(object);
        }
        true
    }

    fn put(&mut self, request: Request, evicted: &mut Vec<u64>) {
        self.now += 1;
        let size = u64::from(request.size);
        if size > self.capacity || self.objects.iter().any(|object| object.oid == request.oid) {
            return;
        }
        while self.objects.iter().map(|object| object.size).sum::<u64>() + size > self.capacity {
            let at = match self.order {
                Order::Fifo | Order::Lru => 0,
                Order::Clock => {
                    if self.objects[0].is_marked {
                        let mut object = self.objects.remove(0);
                        object.is_marked = false;
                        self.objects.push(object);
                        continue;
                    }
                    0
                }
                Order::Sieve => {
                    let at = self.objects.iter().position(|object| object.came > self.hand).unwrap_or(0);
                    let object = &mut self.objects[at];
                    if std::mem::take(&mut object.is_marked) {
                        self.hand = object.came;
                        continue;
                    }
                    let came = object.came;
                    self.hand = if self.objects.iter().any(|object| object.came > came) { came } else { 0 };
                    at
                }
            };
            evicted.push(self.objects.remove(at).oid);
        }
        self.objects.push(Object { oid: request.oid, size, is_marked: false, came: self.now });
    }
}
