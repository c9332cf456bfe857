//! A database with a journal after a power cut, and after another program wrote to it: what each command says and does.

use std::sync::Arc;

use crate::common::site::record;
use crate::common::{Sandbox, without_time};
use jiff::SignedDuration;
use vellum_disk::{Disk, SimDisk};
use vellum_file::{Durability, FileStorage, Options};
use vellum_storage::{ManualClock, Oid, Tid, TransactionMeta};

fn options(disk: &SimDisk, clock: &Arc<ManualClock>) -> Options {
    Options::new().disk(Arc::new(disk.clone())).clock(Arc::clone(clock) as _).threads(1)
}

fn commit(storage: &FileStorage, clock: &ManualClock, description: &str, bytes: usize) -> Tid {
    clock.advance(SignedDuration::from_mins(1));
    let mut change = storage.begin(TransactionMeta::new().user("ann").description(description.to_owned())).unwrap();
    let serial = storage.newest_record(Oid(0)).unwrap().map_or(Tid::ZERO, |record| record.header.tid);
    change.store(Oid(0), serial, record("Root", &[], &[], bytes)).unwrap();
    storage.vote(change).unwrap().finish().unwrap()
}

/// `shop.fs` after a power cut: one commit is in the file, and three are in the journal only. `moved.fs` is the same,
/// with a later commit of a program that knows no journal.
fn power_cut(sandbox: &Sandbox) {
    let clock = Arc::new(ManualClock::at("2026-11-24T09:00:00Z".parse().unwrap()));
    let disk = SimDisk::new(1);
    let before = options(&disk, &clock).create("shop.fs").unwrap();
    commit(&before, &clock, "open the shop", 100);
    drop(before);
    let storage =
        options(&disk, &clock).durability(Durability::Journal).journal_bytes(36 << 10).open("shop.fs").unwrap();
    for n in 1..4 {
        commit(&storage, &clock, &format!("order {n}"), 100 * n);
    }
    let found = disk.crash_losing_everything();
    let read = |disk: &SimDisk, name: &str| disk.read_file(name).unwrap();
    let journal = read(&found, "shop.fs.journal");
    sandbox.file("shop.fs", &read(&found, "shop.fs")).file("shop.fs.journal", &journal);
    found.remove("shop.fs.journal".as_ref()).unwrap();
    let other = options(&found, &clock).open("shop.fs").unwrap();
    commit(&other, &clock, "an order to another program", 50);
    drop(other);
    sandbox.file("moved.fs", &read(&found, "shop.fs")).file("moved.fs.journal", &journal);
    sandbox.file("torn.fs", &read(&found, "shop.fs")).file("torn.fs.journal", &journal[..5000]);
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    power_cut(&sandbox);
    let commands: &[&[&str]] = &[
        &["journal", "show", "shop.fs"],
        &["journal", "show", "shop.fs", "--json"],
        &["log", "shop.fs", "-n", "1"],
        &["check", "shop.fs"],
        &["journal", "discard", "shop.fs"],
        &["undo", "shop.fs", "040d3a3f00000000", "--yes"],
        &["journal", "show", "shop.fs"],
        &["journal", "show", "moved.fs"],
        &["log", "moved.fs", "-n", "1"],
        &["check", "moved.fs"],
        &["pack", "moved.fs", "--yes"],
        &["recover", "moved.fs", "recovered.fs"],
        &["journal", "save", "moved.fs", "saved.fs"],
        &["log", "saved.fs", "-n", "1"],
        &["journal", "discard", "moved.fs"],
        &["log", "moved.fs", "-n", "1"],
        &["journal", "show", "torn.fs"],
        &["pack", "torn.fs", "--yes"],
    ];
    assert_session!("cli-journal", without_time(sandbox.session(commands)));
}

/// Commands that read write nothing, and so does a command that is refused.
#[test]
fn nothing_is_written_by_readers() {
    let sandbox = Sandbox::new();
    power_cut(&sandbox);
    let files = |sandbox: &Sandbox| {
        let mut files = sandbox.files();
        files.retain(|path, _| path.extension().is_none_or(|extension| extension != "lock"));
        files
    };
    let before = files(&sandbox);
    for name in ["shop.fs", "moved.fs", "torn.fs"] {
        for command in
            [&["info", name][..], &["log", name], &["dump", name], &["check", name], &["journal", "show", name]]
        {
            sandbox.run(command);
        }
    }
    for name in ["moved.fs", "torn.fs"] {
        assert_ne!(sandbox.run(&["pack", name, "--yes"]).code, 0);
    }
    assert!(files(&sandbox) == before, "something was written");
}
