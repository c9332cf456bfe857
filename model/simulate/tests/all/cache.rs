//! The simulated segments beside the cache: the same hits on each trace, load by load.

use std::path::Path;

use bytes::Bytes;
use vellum_cache::{CacheFile, Core, Medium, Options, Shape, Words};
use vellum_disk::SimDisk;
use vellum_simulate::policies::{Segments, Sizes};
use vellum_simulate::policy::{NEVER, Policy, Request};
use vellum_simulate::trace;
use vellum_simulate::workload::{Step, Workload};
use vellum_storage::{LoadedAt, Oid, Tid};

const TRACES: [&str; 8] = ["crawl", "moving", "restart", "scans", "search", "several-1", "several-2", "several-3"];

fn workload(name: &str) -> Workload {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/traces/{name}.vtrace.gz"));
    let bytes = std::fs::read(path).expect("the trace is there");
    Workload::of(&trace::read(&bytes).expect("it is a trace"))
}

/// Plays a trace through both, and compares each answer; the hits.
fn play<M: Medium>(name: &str, workload: &Workload, core: &Core<M>, sizes: Sizes) -> u64 {
    let (mut policy, mut evicted, mut hits) = (Segments::with(sizes), Vec::new(), 0);
    let zeros = Bytes::from(vec![0; 8 << 20]);
    let store = |oid, size: u32| {
        // A record that is here is not replaced by a newer one that nobody announced.
        if !core.has(oid, core.head().next()) {
            let data = zeros.slice(..size as usize);
            core.store(core.ask(), oid, &LoadedAt { data, tid: core.head(), next: None });
        }
    };
    for (at, step) in workload.steps.iter().enumerate() {
        match *step {
            Step::Load { oid, size } => {
                let is_hit = policy.access(Request { oid, size, next: NEVER }, &mut evicted);
                let found = core.get(Oid(oid), core.head().next());
                assert_eq!(found.is_some(), is_hit, "{name}, step {at}: {step:?}");
                hits += u64::from(is_hit);
                if !is_hit {
                    store(Oid(oid), size);
                }
            }
            Step::Arrive { oid, size } => {
                policy.put(Request { oid, size, next: NEVER }, &mut evicted);
                store(Oid(oid), size);
            }
            Step::Change { oid } => {
                policy.invalidate(oid);
                core.invalidate(core.head().next(), &[Oid(oid)]);
            }
        }
    }
    assert!(evicted.len() > 100, "{name}: only {} evictions", evicted.len());
    hits
}

#[test]
fn the_simulator_has_the_hits_of_the_cache_in_memory() {
    for name in TRACES {
        let workload = workload(name);
        for bytes in [256 << 10, 512 << 10, 1 << 20] {
            let shape = Shape::of_bytes(bytes);
            let Shape { segments, segment_bytes, .. } = shape;
            let core = Core::new(Words::new(segments, segment_bytes), shape, Tid(1));
            let sizes = Sizes { segments, segment_bytes, header: Words::HEADER_BYTES, reserved: 0 };
            let hits = play(name, &workload, &core, sizes);
            assert!(hits > workload.loads() / 10, "{name}: {hits}");
        }
    }
}

#[test]
fn the_simulator_has_the_hits_of_the_cache_file() {
    for name in TRACES {
        let workload = workload(name);
        for bytes in [256 << 10, 1 << 20] {
            let options = Options { bytes, boot: Some([1; 16]), nonce: 1, changes: 100 };
            let cache = CacheFile::open(&SimDisk::new(1), Path::new("client.cache"), &options).expect("it is opened");
            let hits = play(name, &workload, cache.core(), Sizes::of_file(bytes));
            assert!(hits > workload.loads() / 10, "{name}: {hits}");
        }
    }
}
