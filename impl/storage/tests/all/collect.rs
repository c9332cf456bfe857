//! The collector at work on large and awkward graphs: how long it takes, how much it holds, and that the number of
//! threads and the size of the frontier change nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use vellum_storage::{
    AtPlace, Collected, Collecting, EachPlace, Error, Later, Oid, Own, Place, Refers, Result, Survivors, collect,
};

/// Objects 0 to n - 1, each with one revision, whose place is the oid times seven; and the references of each.
struct Graph<R> {
    objects: u64,
    refers: R,
    /// Records read out of order.
    steps_back: AtomicU64,
}

fn graph<R: Fn(u64) -> Vec<u64> + Sync>(objects: u64, refers: R) -> Graph<R> {
    Graph { objects, refers, steps_back: AtomicU64::new(0) }
}

/// A record that refers to these.
fn record(refers: &[u64]) -> Vec<u8> {
    let mut record = b"\x80\x03capp\nNode\n.\x80\x03](".to_vec();
    for oid in refers {
        record.extend_from_slice(b"C\x08");
        record.extend_from_slice(&oid.to_be_bytes());
        record.push(b'Q');
    }
    record.extend_from_slice(b"e.");
    record
}

impl<R: Fn(u64) -> Vec<u64> + Sync> Collected for Graph<R> {
    fn newest(&self, oid: Oid) -> Result<Place> {
        Ok(if oid.0 < self.objects { oid.0 * 7 + 7 } else { 0 })
    }

    fn known(&self, oid: Oid) -> Result<bool> {
        Ok(oid.0 < self.objects)
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(false)
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        let back = places.windows(2).filter(|pair| pair[0] >= pair[1]).count() as u64;
        self.steps_back.fetch_add(back, Ordering::Relaxed);
        places.iter().try_for_each(|place| {
            let oid = place / 7 - 1;
            each(AtPlace { oid: Oid(oid), data: Some(Refers::Record(&record(&(self.refers)(oid)))), base: 0 })
        })
    }

    fn later(&self, _each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn something(&self, each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        (0..self.objects).try_for_each(|oid| each(Oid(oid)))
    }
}

fn with(threads: usize) -> Collecting<'static> {
    Collecting::new().threads(threads)
}

fn needed(survivors: &Survivors) -> Vec<u64> {
    let next = |from| survivors.needed().next(Oid(from)).map(|oid| oid.0);
    std::iter::successors(next(0), |oid| next(oid + 1)).collect()
}

#[test]
fn a_long_list_needs_no_deep_stack_and_little_time() {
    let list = graph(100_000, |oid| vec![oid + 1].into_iter().filter(|next| *next < 100_000).collect());
    // A stack that a recursion of a thousand would fill.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let survivors = std::thread::scope(|scope| {
        small.spawn_scoped(scope, || collect(&list, with(2)).unwrap()).unwrap().join().unwrap()
    });
    assert_eq!((survivors.needed().len(), survivors.read()), (100_000, 100_000));
}

#[test]
fn a_tree_takes_at_most_24_bytes_an_object_and_32_on_several_threads() {
    const OBJECTS: u64 = 200_000;
    let tree = graph(OBJECTS, |oid| (oid * 30 + 1..oid * 30 + 31).filter(|child| *child < OBJECTS).collect());
    for threads in [1, 2, 5] {
        for collects in [true, false] {
            let survivors = collect(&tree, with(threads).collect(collects)).unwrap();
            assert_eq!(survivors.needed().len(), OBJECTS);
            let peak = survivors.peak_bytes() as u64;
            println!("{threads} threads, collects {collects}: {:.1} bytes an object", peak as f64 / OBJECTS as f64);
            // The lists of several threads grow each by itself, and how far depends on which thread runs.
            let most = if threads == 1 { 24 } else { 32 };
            assert!(peak <= most * OBJECTS, "{} bytes an object", peak / OBJECTS);
            // All that is known is marked, and read once.
            assert_eq!(survivors.read(), OBJECTS);
        }
    }
    assert_eq!(tree.steps_back.into_inner(), 0);
}

#[test]
fn those_who_wait_take_little_in_a_large_tree() {
    const OBJECTS: u64 = 1_000_000;
    let tree = graph(OBJECTS, |oid| (oid * 30 + 1..oid * 30 + 31).filter(|child| *child < OBJECTS).collect());
    let survivors = collect(&tree, with(2).places_max(1000)).unwrap();
    assert_eq!((survivors.needed().len(), survivors.read()), (OBJECTS, OBJECTS));
    assert!(survivors.peak_bytes() as u64 <= OBJECTS, "{}", survivors.peak_bytes());
}

#[test]
fn a_small_frontier_takes_a_byte_an_object() {
    const OBJECTS: u64 = 200_000;
    let flat = graph(OBJECTS, |oid| if oid == 0 { (1..OBJECTS).collect() } else { vec![oid - 1] });
    let survivors = collect(&flat, with(2).places_max(1000)).unwrap();
    assert_eq!((survivors.needed().len(), survivors.read()), (OBJECTS, OBJECTS));
    assert!(survivors.peak_bytes() as u64 <= OBJECTS, "{}", survivors.peak_bytes());
}

/// A random graph with garbage in it, and dangling references.
fn random(seed: u64) -> Graph<impl Fn(u64) -> Vec<u64> + Sync> {
    let hash = move |n: u64| ((n + 1) ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    graph(20_000, move |oid| {
        (0..if oid == 0 { 20 } else { hash(oid) % 4 }).map(|n| hash(oid * 4 + n) % 20_010).collect()
    })
}

#[test]
fn neither_threads_nor_the_frontier_change_what_survives() {
    for seed in 0..8 {
        let graph = random(seed);
        let go_on = |how: Collecting<'_>| collect(&graph, how.go_on(true)).unwrap();
        let one = go_on(with(1));
        assert!(!one.dangling().is_empty() && (1000..19_000).contains(&one.needed().len()), "{}", one.needed().len());
        for how in [with(2), with(5), with(1).places_max(7), with(3).places_max(2000)] {
            let other = go_on(how);
            assert_eq!(needed(&other), needed(&one), "{how:?}");
            assert_eq!((other.dangling(), other.read()), (one.dangling(), one.read()), "{how:?}");
            let refused = collect(&graph, how).map(|_| ());
            match refused {
                Err(Error::Dangling { references }) => assert_eq!(references, one.dangling(), "{how:?}"),
                other => assert!(one.dangling().is_empty() && other.is_ok(), "{how:?}: {other:?}"),
            }
        }
    }
}

/// A storage that fails while it reads; each thread may meet the failure.
struct Failing;

impl Collected for Failing {
    fn newest(&self, oid: Oid) -> Result<Place> {
        Ok(oid.0 + 1)
    }

    fn known(&self, _oid: Oid) -> Result<bool> {
        Ok(true)
    }

    fn is_rootless(&self) -> Result<bool> {
        Ok(false)
    }

    fn read(&self, places: &[Place], each: &mut EachPlace<'_>) -> Result<()> {
        places.iter().try_for_each(|place| match place {
            1 => each(AtPlace {
                oid: Oid(0),
                data: Some(Refers::Record(&record(&(1..5000).collect::<Vec<_>>()))),
                base: 0,
            }),
            4000.. => Err(Error::Exhausted { what: "all patience" }),
            _ => each(AtPlace { oid: Oid(place - 1), data: None, base: 0 }),
        })
    }

    fn later(&self, each: &mut dyn FnMut(Later<'_>) -> Result<()>) -> Result<()> {
        each(Later { oid: Oid(7), data: Own::None, source: 0, base: 0 })
    }

    fn something(&self, _each: &mut dyn FnMut(Oid) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_the_storage_says_ends_it() {
    for threads in [1, 2, 5] {
        let failed = collect(&Failing, with(threads)).unwrap_err();
        assert_eq!(failed.to_string(), "all patience are used up");
    }
}
