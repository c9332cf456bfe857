//! `vellum cache`: what is in the cache files of clients.

use crate::common::Sandbox;
use vellum_cache::{CacheFile, Options};
use vellum_disk::RealDisk;
use vellum_storage::{LoadedAt, Oid, Tid};

/// The last transaction of which the clients were told.
const LAST: u64 = 0x040d_4a70_0000_0000;

fn zec() -> Vec<u8> {
    let record = |oid: u64, tid: u64, end: u64, data: &[u8]| {
        let numbers = [oid, tid, end].map(u64::to_be_bytes).concat();
        let (length, data_length) = ((43 + data.len() as u32).to_be_bytes(), (data.len() as u32).to_be_bytes());
        [&b"a"[..], &length, &numbers, &[0, 0], &data_length, data, &oid.to_be_bytes()].concat()
    };
    let free = [&b"f"[..], &1000_u32.to_be_bytes(), &[0; 995]].concat();
    let old = record(1, LAST - 9, LAST - 5, b"an earlier state");
    [b"ZEC3", &LAST.to_be_bytes()[..], &record(1, LAST - 5, 0, b"a state"), &old, &free].concat()
}

#[test]
fn a_cache_file_is_shown_checked_and_imported() {
    let sandbox = Sandbox::new();
    let cache = CacheFile::open(&RealDisk, &sandbox.path("client.cache"), &Options::of_this_machine(1 << 20)).unwrap();
    let core = cache.core();
    core.clear(Tid(LAST - 5));
    for oid in 0..200 {
        let found = LoadedAt { data: vec![7; 500].into(), tid: Tid(LAST - 9), next: None };
        assert!(core.store(core.ask(), Oid(oid), &found));
    }
    core.invalidate(Tid(LAST), &[Oid(3)]);
    cache.close().unwrap();
    sandbox.file("client.zec", &zec()).file("other", b"anything else");
    let mut damaged = zec();
    *damaged.last_mut().unwrap() = 0;
    damaged.truncate(100);
    sandbox.file("damaged.zec", &damaged);
    let mut bytes = std::fs::read(sandbox.path("client.cache")).unwrap();
    for byte in &mut bytes[8192 + 65_536 - 700..8192 + 65_536 - 650] {
        *byte = 0;
    }
    sandbox.file("damaged.cache", &bytes);
    assert_session!(
        "cache-files",
        sandbox.session(&[
            &["cache", "info", "client.cache"],
            &["cache", "check", "client.cache"],
            &["cache", "check", "client.cache", "--json"],
            &["cache", "check", "damaged.cache"],
            &["cache", "info", "client.zec"],
            &["cache", "info", "damaged.zec"],
            &["cache", "import", "client.zec", "new.cache"],
            &["cache", "info", "new.cache"],
            &["cache", "import", "client.zec", "new.cache"],
            &["cache", "import", "damaged.zec", "newer.cache"],
            &["cache", "info", "other"],
            &["cache", "info", "nothing"],
        ])
    );
    assert!(!sandbox.path("newer.cache").exists());
}
