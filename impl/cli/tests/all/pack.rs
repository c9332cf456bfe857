//! `vellum pack`: the discarded revisions, the messages, and the log.

use std::collections::BTreeSet;

use crate::common::site::{Delete, Site, Store, StoreIn, record};
use crate::common::{Sandbox, without_time};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Tid, TidRange, TransactionMeta};

/// A shop where a product changed its price often, and another was taken from the shelf and forgotten.
fn shop(sandbox: &Sandbox) -> Vec<Tid> {
    let mut site = Site::new(sandbox, "shop.fs");
    let shelf = |strong: &[u64]| record("Shelf", strong, &[], 20);
    let product = |bytes| record("Product", &[], &[], bytes);
    let mut tids = vec![
        site.commit("ann", "open the shop", vec![Store(0, record("Root", &[1], &[], 0)), Store(1, shelf(&[]))]),
        site.commit(
            "bob",
            "two products",
            vec![Store(1, shelf(&[2, 3])), Store(2, product(300)), Store(3, product(40_000))],
        ),
    ];
    for price in 0..5 {
        tids.push(site.commit("cleo", "another\nprice", vec![Store(2, product(300 + price))]));
    }
    tids.push(site.commit("ann", "nobody wants it", vec![Store(1, shelf(&[2]))]));
    tids.push(site.commit("dora", "spring sale", vec![StoreIn("spring", 1, shelf(&[2]))]));
    tids
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let commands: &[&[&str]] = &[
        &["pack", "shop.fs", "--dry-run"],
        &["pack", "shop.fs", "--dry-run", "--before", "2026-11-24 09:04", "--classes", "1"],
        &["pack", "shop.fs", "--dry-run", "--days", "30"],
        &["pack", "shop.fs", "--dry-run", "--json"],
        &["pack", "shop.fs", "--yes", "--before", "2026-11-24 09:04", "--keep-log", "forgotten.jsonl"],
        &["log", "shop.fs", "-n", "2"],
        &["pack", "shop.fs", "--yes", "--before", "2026-11-24 09:02"],
        &["check", "shop.fs.old"],
        &["pack", "shop.fs", "--yes", "--no-collect", "--keep-log", "forgotten.jsonl", "--json"],
        &["pack", "shop.fs", "--yes", "--no-old", "--keep-log", "forgotten.jsonl"],
        &["pack", "shop.fs", "--yes"],
        &["check", "shop.fs"],
        &["check", "shop.fs.old"],
        &["pack", "shop.fs", "--yes", "--days", "3", "--before", "now"],
        &["pack", "shop.fs", "--dry-run", "--no-old"],
        &["pack", "nowhere.fs"],
    ];
    assert_session!("cli-pack", without_time(sandbox.session(commands)));
    assert_session!("cli-pack-log", std::fs::read_to_string(sandbox.path("forgotten.jsonl")).unwrap());
}

/// A pack cannot be undone: without a yes not a byte is changed, and after one the old file is still there.
#[test]
fn nothing_goes_without_a_yes() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let files = || {
        let mut files = sandbox.files();
        files.remove(&sandbox.path("shop.fs.lock"));
        files
    };
    let before = files();
    let unattended: &[&[&str]] = &[
        &["pack", "shop.fs", "--before", "2026-11-24 09:04", "--keep-log", "log"],
        &["pack", "shop.fs", "--json", "--no-old"],
        &["pack", "shop.fs", "--days", "30"],
        &["pack", "shop.fs", "--yes", "--dry-run"],
    ];
    let mut session = without_time(sandbox.session(unattended));
    assert!(files() == before, "{session}");
    for more in [&[][..], &["--no-old"], &["--no-collect", "--keep-log", "log"]] {
        for no in ["n\n", "\n", "\u{4}"] {
            let (code, seen) = sandbox.at_a_terminal(&[&["pack", "shop.fs"], more].concat(), no);
            assert!(code == 1 && seen.contains("Nothing was changed.") && files() == before, "{no:?}: {seen}");
            assert!(seen.find("shop.Product").unwrap() < seen.find("Pack this? [y/N] ").unwrap(), "{seen}");
        }
    }
    // A site that uses it.
    let used = FileStorage::open(sandbox.path("shop.fs")).unwrap();
    let (code, seen) = sandbox.at_a_terminal(&["pack", "shop.fs"], "y\n");
    assert!(code == 2 && seen.contains("shop.fs: in use"), "{seen}");
    drop(used);
    let mut at_a_terminal = |arguments: &[&str], typed: &str| {
        let (code, seen) = sandbox.at_a_terminal(arguments, typed);
        session.push_str(&format!("\n\n(at a terminal) $ vellum {}\n{}", arguments.join(" "), without_time(seen)));
        assert_eq!(code, 0, "{session}");
    };
    let old = || std::fs::read(sandbox.path("shop.fs.old")).ok();
    at_a_terminal(&["pack", "shop.fs", "--before", "2026-11-24T09:04"], "y\n");
    assert!(old().as_ref() == Some(&before[&sandbox.path("shop.fs")]), "the old file is kept");
    // The file was kept by the earlier pack, not by this one.
    at_a_terminal(&["pack", "shop.fs", "--no-old", "--keep-log", "log"], "yes\n");
    assert!(old().as_ref() == Some(&before[&sandbox.path("shop.fs")]), "nothing took its place");
    at_a_terminal(&["pack", "shop.fs"], "");
    assert_session!("cli-pack-asks", session);
}

/// A product was thrown away that is still on the shelf, and another one never came.
#[test]
fn a_damaged_database_is_not_packed_unless_that_is_wanted() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    let shelf = |strong: &[u64]| record("Shelf", strong, &[], 20);
    site.commit("ann", "open the shop", vec![Store(0, record("Root", &[1], &[], 0)), Store(1, shelf(&[2, 3, 0x77]))]);
    site.commit(
        "bob",
        "one of them",
        vec![Store(2, record("Product", &[], &[], 10)), Store(3, record("Product", &[], &[], 9))],
    );
    site.commit("bob", "and away", vec![Delete(3)]);
    drop(site);
    let files = || {
        let mut files = sandbox.files();
        files.remove(&sandbox.path("shop.fs.lock"));
        files
    };
    let before = files();
    let refused: &[&[&str]] = &[
        &["pack", "shop.fs", "--yes", "--keep-log", "forgotten.jsonl"],
        &["pack", "shop.fs", "--yes", "--json"],
        &["pack", "shop.fs", "--dry-run"],
    ];
    let mut session = without_time(sandbox.session(refused));
    let mut after = files();
    assert_eq!(after.remove(&sandbox.path("forgotten.jsonl")), Some(Vec::new()));
    assert_eq!(after, before);
    let rootless = FileStorage::create(sandbox.path("rootless.fs")).unwrap();
    let mut change =
        rootless.begin(TransactionMeta::new().tid(Tid::at("2026-11-24T10:00:00Z".parse().unwrap()))).unwrap();
    change.store(vellum_storage::Oid(5), Tid::ZERO, record("Product", &[], &[], 1)).unwrap();
    rootless.vote(change).unwrap().finish().unwrap();
    drop(rootless);
    let others: &[&[&str]] = &[&["pack", "shop.fs", "--yes", "--go-on"], &["pack", "rootless.fs", "--yes"]];
    session.push_str(&format!("\n\n{}", without_time(sandbox.session(others))));
    assert_session!("cli-pack-refused", session);
}

/// For all times and sequences of packs: every discarded revision was logged, with its transaction's user, and all
/// discarded objects of it.
#[test]
fn what_is_forgotten_is_written_down() {
    let sandbox = Sandbox::new();
    let tids = shop(&sandbox);
    let revisions = |name: &str| -> BTreeSet<(String, String)> {
        let storage = FileStorage::open_read_only(sandbox.path(name)).unwrap();
        let all = storage.transactions(TidRange::ALL, vellum_storage::Order::OldestFirst).unwrap();
        let pairs = all
            .map(|t| t.unwrap())
            .flat_map(|t| t.revisions.into_iter().map(move |revision| (t.tid.to_string(), revision.oid.to_string())));
        pairs.collect()
    };
    let before = revisions("shop.fs");
    for to in [3, 5, 8] {
        let time = tids[to].to_string();
        let run = sandbox.run(&["pack", "shop.fs", "--yes", "--before", &time, "--keep-log", "log"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    }
    let after = revisions("shop.fs");
    let mut written = BTreeSet::new();
    for line in std::fs::read_to_string(sandbox.path("log")).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(["ann", "bob", "cleo", "dora"].contains(&line["user"].as_str().unwrap()));
        for gone in ["forgotten", "collected"] {
            for oid in line[gone].as_array().unwrap() {
                let is_new =
                    written.insert((line["tid"].as_str().unwrap().to_owned(), oid.as_str().unwrap().to_owned()));
                assert!(is_new, "{line}");
            }
        }
    }
    assert_eq!(written, before.difference(&after).cloned().collect());
    assert!(written.len() > 5 && after.len() > 2);
}

/// For all times: "nothing was changed" is said exactly if no byte was; and then the same transactions can be undone. A
/// dry run never says that it packed.
#[test]
fn nothing_was_changed_is_true() {
    let mut unchanged = 0;
    let all = {
        let sandbox = Sandbox::new();
        let mut site = Site::new(&sandbox, "young.fs");
        let mut tids = vec![site.commit("ann", "open", vec![Store(0, record("Root", &[1], &[], 0))])];
        tids.push(site.commit("ann", "a product", vec![Store(1, record("Product", &[], &[], 9))]));
        tids.push(site.commit("bob", "another", vec![Store(2, record("Product", &[1], &[], 9))]));
        drop(site);
        vec![
            ("young.fs", std::fs::read(sandbox.path("young.fs")).unwrap(), tids),
            (
                "shop.fs",
                {
                    shop(&sandbox);
                    std::fs::read(sandbox.path("shop.fs")).unwrap()
                },
                shop(&Sandbox::new()),
            ),
        ]
    };
    for (name, bytes, tids) in &all {
        for tid in tids {
            for more in [&["--no-collect"][..], &[]] {
                let sandbox = Sandbox::new();
                sandbox.file(name, bytes);
                let undoable = || sandbox.run(&["log", name, "--undoable", "--all", "--json"]).stdout;
                let before = undoable();
                let before_this = Tid(tid.0 + 1).to_string();
                let arguments: Vec<&str> = [&["pack", name, "--before", &before_this][..], more].concat();
                let dry = sandbox.run(&[&arguments[..], &["--dry-run"]].concat());
                assert!(dry.stdout.contains("would pack to") && !dry.stdout.contains("packed to"), "{}", dry.stdout);
                assert!(std::fs::read(sandbox.path(name)).unwrap() == *bytes);
                let run = sandbox.run(&[&arguments[..], &["--yes"]].concat());
                let is_same = std::fs::read(sandbox.path(name)).unwrap() == *bytes;
                assert_eq!(run.stdout.contains("nothing was changed"), is_same, "{name}, {tid}: {}", run.stdout);
                assert_eq!(dry.stdout.contains("nothing was changed"), is_same, "{name}, {tid}: {}", dry.stdout);
                assert_eq!(run.stdout.contains("packed to"), !is_same, "{name}, {tid}: {}", run.stdout);
                if is_same {
                    unchanged += 1;
                    assert_eq!(undoable(), before, "{name}, {tid}");
                }
            }
        }
    }
    assert!(unchanged > 4, "{unchanged}");
}
