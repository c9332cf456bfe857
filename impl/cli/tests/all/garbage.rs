//! `vellum refs`, `vellum garbage` and `vellum check --references`: the paths that keep objects, and the lost objects.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};

use crate::common::site::{Commit, Delete, Nothing, Site, Store, StoreIn, Undo, record};
use crate::common::{Run, Sandbox, golden};
use proptest::prelude::*;
use serde_json::Value;
use vellum_pickle::Reference;
use vellum_storage::{
    CopyOptions, MemoryStorage, Oid, PackOptions, Status, Storage, Tid, TidRange, TransactionMeta, Version, copy,
    needed,
};

fn lines(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A shop with a cycle of garbage, an object that is remembered but not kept, and work in a version.
fn shop(sandbox: &Sandbox) -> Site {
    let mut site = Site::new(sandbox, "shop.fs");
    let shelf = |strong: &[u64], weak: &[u64]| record("Shelf", strong, weak, 20);
    let product = |bytes| record("Product", &[], &[], bytes);
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1], &[], 0)),
            Store(1, shelf(&[2, 3], &[])),
            Store(2, product(300)),
            Store(3, product(500)),
        ],
    );
    site.commit(
        "bob",
        "two drafts that know each other",
        vec![
            Store(0x10, record("Draft", &[0x11], &[], 3000)),
            Store(0x11, record("Draft", &[0x10, 2], &[0x12], 1000)),
            Store(0x12, record("Note", &[], &[], 100)),
            Store(1, shelf(&[2, 3], &[0x12])),
        ],
    );
    site.commit(
        "cleo",
        "the spring sale",
        vec![
            Store(0x20, product(700)),
            StoreIn("spring", 1, shelf(&[3, 0x20, 0x21], &[2])),
            StoreIn("spring", 0x21, product(50)),
        ],
    );
    site
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo");
    drop(shop(&sandbox));
    let commands: &[&[&str]] = &[
        &["refs", "shop.fs", "2"],
        &["refs", "shop.fs", "21"],
        &["refs", "shop.fs", "10"],
        &["refs", "shop.fs", "12"],
        &["refs", "shop.fs", "0"],
        &["refs", "shop.fs", "20", "--json"],
        &["refs", "shop.fs", "20", "--at", "2026-11-24 09:01"],
        &["refs", "shop.fs", "2", "--at", "2026-11-24 09:00", "--json"],
        &["refs", "shop.fs", "2", "--at", "2026-11-23"],
        &["refs", "mail.fs", "20"],
        &["refs", "mail.fs", "26", "--max", "1"],
        &["refs", "undo.fs", "19"],
        &["refs", "undo.fs", "19", "--json"],
        &["refs", "mail.fs", "ffff"],
    ];
    assert_story!("cli-refs", sandbox, commands);
    let commands: &[&[&str]] = &[
        &["garbage", "shop.fs"],
        &["garbage", "shop.fs", "--classes", "1"],
        &["garbage", "shop.fs", "--list"],
        &["garbage", "shop.fs", "--json"],
        &["garbage", "shop.fs", "--list", "--json"],
        &["garbage", "mail.fs"],
        &["garbage", "mail.fs", "--list", "--json"],
    ];
    assert_story!("cli-garbage", sandbox, commands);
}

/// A shelf from which products were taken and not crossed out.
#[test]
fn lost_objects() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo");
    let mut site = shop(&sandbox);
    let shelf = |strong: &[u64]| record("Shelf", strong, &[], 20);
    // 3 is on the shelf, in the version and on the trunk; and it was on another, and is again.
    site.commit("dora", "a second shelf", vec![Store(5, shelf(&[3, 0x77]))]);
    let empty = site.commit("dora", "empty it", vec![Store(5, shelf(&[]))]);
    site.commit("dora", "put one back", vec![Store(5, shelf(&[3]))]);
    site.commit("dora", "and one of which there is only the number", vec![Store(5, shelf(&[3, 0x77]))]);
    let swept = site.commit("eve", "throw the\nold one away", vec![Delete(3)]);
    site.commit("fay", "a product", vec![Store(6, record("Product", &[], &[], 10))]);
    let again = site.commit("fay", "another price", vec![Store(6, record("Product", &[], &[], 12))]);
    site.commit("fay", "to the root", vec![Store(0, record("Root", &[1, 6], &[], 0))]);
    site.commit("gus", "away with it", vec![Delete(6)]);
    drop(site);
    let commands: &[&[&str]] = &[
        &["check", "shop.fs", "--references"],
        &["check", "shop.fs", "--references", "--max", "2"],
        &["check", "shop.fs", "--references", "--json"],
        &["refs", "shop.fs", "3"],
        &["refs", "shop.fs", "77"],
        &["garbage", "shop.fs"],
        &["check", "undo.fs", "--references"],
        &["check", "mail.fs", "--references"],
    ];
    assert_story!("cli-check-references", sandbox, commands);
    let run = sandbox.run(&["check", "shop.fs", "--references", "--json"]);
    let lost: Vec<_> = lines(&run).into_iter().filter(|line| line["kind"] == "lost_object").collect();
    let [three, six, missing] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!(three["ended"]["tid"], swept.to_string());
    assert_eq!((&three["last"]["bytes"], &six["last"]["tid"]), (&528.into(), &again.to_string().into()));
    assert_eq!(
        (&missing["state"], &missing["last"], &missing["ended"]),
        (&"unknown".into(), &Value::Null, &Value::Null)
    );
    // Not since the first time: in between it was not there.
    let second_shelf =
        three["holders"].as_array().unwrap().iter().find(|holder| holder["oid"].as_str().unwrap().ends_with('5'));
    let since: Tid = second_shelf.unwrap()["since"]["tid"].as_str().unwrap().parse().unwrap();
    assert!(since > empty && second_shelf.unwrap()["tid"].as_str().unwrap() > &since.to_string()[..]);
    // The command in the answer works.
    let at = three["last"]["tid"].as_str().unwrap();
    let shown = sandbox.command(&["show", "shop.fs", "3", "--at", at, "--raw"]).output().unwrap();
    assert_eq!(shown.stdout, record("Product", &[], &[], 500));
}

/// An undo shares the data of an older record: the referrer of a lost object is found all the same, unlike in the list
/// of problems.
#[test]
fn a_holder_that_shares_its_data() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "undo.fs");
    let root = |strong: &[u64]| record("Root", strong, &[], 0);
    let product =
        site.commit("ann", "one product", vec![Store(0, root(&[1])), Store(1, record("Product", &[], &[], 1))]);
    let crossed_out = site.commit("ann", "cross it out", vec![Store(0, root(&[]))]);
    let gone = site.commit("ann", "throw it away", vec![Delete(1)]);
    // It was nothing already: that is no news.
    site.commit("ann", "and again", vec![Nothing(1)]);
    assert_eq!(sandbox.run(&["check", "undo.fs", "--references"]).code, 0);
    let back = site.commit("bob", "not so fast", vec![Undo(crossed_out)]);
    drop(site);
    let run = sandbox.run(&["check", "undo.fs", "--references", "--json"]);
    let [lost, summary] = &lines(&run)[..] else { panic!("{}", run.stdout) };
    assert_eq!((run.code, &summary["dangling_references"]), (1, &1.into()));
    assert_eq!(lost["ended"]["tid"], gone.to_string());
    assert_eq!(lost["last"]["tid"], product.to_string());
    assert_eq!(lost["holders"][0]["tid"], back.to_string());
    assert_eq!(lost["holders"][0]["since"]["tid"], back.to_string());
}

/// References in a version and those of its base each have a past of their own; the version's end is no
/// break.
#[test]
fn holders_in_a_version() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "draft.fs");
    let root = |strong: &[u64]| record("Root", strong, &[], 0);
    let note = record("Note", &[], &[], 1);
    let first = site.commit("ann", "", vec![Store(0, root(&[1])), Store(1, note.clone()), Store(2, note)]);
    let second = site.commit("ann", "", vec![StoreIn("draft", 0, root(&[2]))]);
    let third = site.commit("ann", "", vec![StoreIn("draft", 0, root(&[2, 2]))]);
    site.commit("ann", "", vec![Delete(1)]);
    site.commit("ann", "", vec![Delete(2)]);
    let holders = || {
        let run = sandbox.run(&["check", "draft.fs", "--references", "--json"]);
        assert_eq!(run.code, 1);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lost: Vec<_> = lines(&run).into_iter().filter(|line| line["kind"] == "lost_object").collect();
        let holders = lost.iter().flat_map(|lost| {
            let oid = text(&lost["oid"]).pop().unwrap();
            let holders = lost["holders"].as_array().unwrap().clone();
            holders.into_iter().map(move |h| (oid, text(&h["version"]), text(&h["tid"]), text(&h["since"]["tid"])))
        });
        holders.collect::<Vec<_>>()
    };
    let held = |oid, version: &str, tid: Tid, since: Tid| (oid, version.to_owned(), tid.to_string(), since.to_string());
    assert_eq!(holders(), [held('1', "", first, first), held('2', "draft", third, second)]);
    let ended = site.commit("ann", "", vec![Commit("draft")]);
    drop(site);
    assert_eq!(holders(), [held('2', "", ended, second)]);
}

/// In a packed file the time of the reference is not known, only its latest possible value.
#[test]
fn the_past_is_packed() {
    let sandbox = Sandbox::new();
    let site = Site::new(&sandbox, "packed.fs");
    let mut meta = TransactionMeta::new().user("ann").tid(Tid::at("2026-11-24T09:00:00Z".parse().unwrap()));
    meta.status = Status::Packed;
    site.commit_with(meta, vec![Store(0, record("Root", &[9], &[], 0))]);
    drop(site);
    let run = sandbox.run(&["check", "packed.fs", "--references"]);
    assert!(run.stdout.contains("or longer: what was before is packed"), "{}", run.stdout);
    assert!(run.stdout.contains("there is no record of it"), "{}", run.stdout);
    let run = sandbox.run(&["check", "packed.fs", "--references", "--json"]);
    assert_eq!(lines(&run)[1]["holders"][0]["since_pack"], true, "{}", run.stdout);
}

/// A transaction in the middle is damaged: the rest of the file is read as well.
#[test]
fn lost_by_damage() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "whole.fs");
    let root = |strong: &[u64]| record("Root", strong, &[], 0);
    site.commit("ann", "", vec![Store(0, root(&[]))]);
    let damaged = site.storage.size() as usize;
    let product = site.commit("ann", "", vec![Store(1, record("Product", &[], &[], 10))]);
    let since = site.commit("ann", "needs it", vec![Store(0, root(&[1]))]);
    drop(site);
    let mut bytes = std::fs::read(sandbox.path("whole.fs")).unwrap();
    bytes[damaged + 15] ^= 1;
    sandbox.file("damaged.fs", &bytes);
    let run = sandbox.run(&["check", "damaged.fs", "--references", "--json"]);
    let lost: Vec<_> = lines(&run).into_iter().filter(|line| line["kind"] == "lost_object").collect();
    assert_eq!(run.code, 1);
    assert_eq!((lost.len(), &lost[0]["state"]), (1, &"unknown".into()), "{}", run.stdout);
    assert_eq!(lost[0]["holders"][0]["since"]["tid"], since.to_string());
    // Nothing is wrong with the record but where it lies.
    let last = &lost[0]["last"];
    assert_eq!((&last["tid"], &last["damaged"]), (&product.to_string().into(), &true.into()), "{}", run.stdout);
    let at = last["data_position"].as_u64().unwrap() as usize;
    let whole = record("Product", &[], &[], 10);
    assert_eq!(&bytes[at..at + last["bytes"].as_u64().unwrap() as usize], &whole[..]);
    let shown = sandbox.run(&["check", "damaged.fs", "--references"]).stdout;
    assert!(shown.contains(&format!("dd if=damaged.fs of=record bs=1 skip={at} count={}", whole.len())), "{shown}");
    // Nor is what merely begins like one believed: that is of no transaction before it, or no two pickles.
    let (transaction, end) = (at - 42 + 24 + 7, at + whole.len() - 1);
    for wrong in [transaction, at + 1, end] {
        let mut bytes = bytes.clone();
        bytes[wrong] = 0xff;
        sandbox.file("damaged.fs", &bytes);
        let shown = sandbox.run(&["check", "damaged.fs", "--references"]).stdout;
        assert!(shown.contains("there is no record of it"), "{wrong}: {shown}");
    }
}

/// Damage of a database is reported, and a file that is no database is refused.
#[test]
fn what_can_not_be_told() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").file("text", b"just some text\n").file("empty.fs", b"FS30");
    let mut site = Site::new(&sandbox, "rootless.fs");
    site.commit("ann", "", vec![Store(1, record("Product", &[], &[], 10))]);
    let mut site = Site::new(&sandbox, "broken.fs");
    site.commit("ann", "", vec![Store(0, record("Root", &[1], &[], 10)), Store(1, "no pickle".into())]);
    let mut site = Site::new(&sandbox, "unneeded.fs");
    site.commit("ann", "", vec![Store(0, record("Root", &[], &[], 10)), Store(1, "no pickle".into())]);
    let mut site = Site::new(&sandbox, "missing.fs");
    site.commit("ann", "", vec![Store(0, record("Root", &[1, 2], &[], 10))]);
    drop(site);
    let tables = common::story::in_tables(&sandbox);
    for (arguments, code, said) in [
        (&["garbage", "rootless.fs"][..], 1, "there is no root"),
        (&["garbage", "rootless.fs", "--json"], 1, "\"rootless\":true,\"missing_objects\":0"),
        (&["garbage", "empty.fs"], 0, "no garbage"),
        (&["garbage", "missing.fs"], 1, "2 objects that are referred to are not in the file"),
        (&["garbage", "broken.fs"], 1, "the garbage is not known: 1 record does not say what it refers to"),
        (&["garbage", "unneeded.fs"], 0, "(cannot be read)"),
        (&["garbage", "unneeded.fs", "--list"], 0, "(no class can be read)"),
        (&["refs", "broken.fs", "7"], 1, "1 record may refer to it: that cannot be told"),
        (&["refs", "broken.fs", "7", "--json"], 1, "\"untold\":1"),
        (&["refs", "missing.fs", "1"], 1, "it is not in the file"),
        (&["refs", "empty.fs", "1"], 0, "none; 0 objects were looked at"),
        (&["refs", "mail.fs", "xyz"], 2, "an oid is up to 16 hex digits"),
        (&["refs", "mail.fs"], 2, "required"),
        (&["garbage"], 2, "required"),
        (&["refs", "text", "0"], 2, "not a database"),
        (&["garbage", "text"], 2, "not a database"),
        (&["check", "text", "--references"], 2, "not a database"),
        (&["check", "empty.fs", "--references"], 0, "every reference leads to an object that is there"),
    ] {
        let run = sandbox.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {}{}", run.stdout, run.stderr);
        let heard = if code == 2 { &run.stderr } else { &run.stdout };
        assert!(heard.contains(said), "{arguments:?}: {}{}", run.stdout, run.stderr);
        if arguments[0] != "check" {
            let theirs = tables.run(arguments);
            assert_eq!((theirs.code, theirs.stdout, theirs.stderr), (code, run.stdout, run.stderr), "{arguments:?}");
        }
    }
    let before = std::fs::read(golden("mail.fs")).unwrap();
    assert_eq!(std::fs::read(sandbox.path("mail.fs")).unwrap(), before);
}

/// Users, descriptions, versions and classes are anybody's text.
#[test]
fn foreign_text_is_harmless() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "hostile.fs");
    let red = "\u{1b}[31mRed\u{202e}";
    let all = vec![
        Store(0, record(red, &[1, 2], &[], 0)),
        Store(1, record(red, &[2], &[1], 0)),
        Store(2, record(red, &[], &[], 0)),
        Store(3, record(red, &[2], &[], 0)),
        StoreIn("\u{1b}[2Jspring", 4, record(red, &[1, 2, 3], &[], 0)),
    ];
    site.commit("mallory\u{1b}[1m", "\u{1b}]0;owned\u{7}\r", all);
    site.commit("mallory\u{1b}[1m", "\u{1b}]0;owned\u{7}\r", vec![Delete(2)]);
    drop(site);
    for arguments in [
        &["check", "hostile.fs", "--references"][..],
        &["refs", "hostile.fs", "1"],
        &["refs", "hostile.fs", "2"],
        &["garbage", "hostile.fs", "--list"],
    ] {
        for json in [false, true] {
            let arguments: Vec<_> = arguments.iter().copied().chain(json.then_some("--json")).collect();
            let run = sandbox.run(&arguments);
            let dangerous = |c: char| (c.is_control() && c != '\n') || (!json && c == '\u{202e}');
            assert!(!run.stdout.contains(dangerous) && run.stderr.is_empty(), "{arguments:?}: {:?}", run.stdout);
            assert!(run.stdout.contains("[31mRed"), "{arguments:?}: {}", run.stdout);
        }
    }
}

/// 100,000 objects in a row, and as many in an unreachable ring: no stack is deep enough for that.
#[test]
fn a_long_list() {
    const LONG: u64 = 100_000;
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "long.fs");
    let list = (0..LONG - 1).map(|oid| Store(oid, record("Link", &[oid + 1], &[], 0)));
    let ring = (0..LONG).map(|n| Store(LONG + n, record("Ring", &[LONG + (n + 1) % LONG], &[], 0)));
    let end = Store(LONG - 1, record("End", &[], &[], 0));
    site.commit("ann", "long", list.chain(ring).chain([end]).collect());
    drop(site);
    // A recursion of a few thousand would fill this.
    let run = |arguments: &str| {
        let script = format!("ulimit -s 256; exec \"$0\" {arguments}");
        let mut command = std::process::Command::new("bash");
        let command = command.args(["-c", &script, env!("CARGO_BIN_EXE_vellum")]).current_dir(sandbox.path(""));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let summary: Value = serde_json::from_str(&run("garbage long.fs --json")).unwrap();
    assert_eq!((&summary["objects"], &summary["garbage_objects"]), (&(2 * LONG).into(), &LONG.into()));
    assert_eq!(summary["classes"][0]["class"], "shop.Ring");
    let last = format!("{:x}", LONG - 1);
    let shown = run(&format!("refs long.fs {last}"));
    assert!(shown.contains("99,999 references") && shown.contains("and 99,980 between these"), "{shown}");
    assert!(shown.lines().count() < 40, "{shown}");
    let answer = run(&format!("refs long.fs {last} --json"));
    let object: Value = serde_json::from_str(answer.lines().next().unwrap()).unwrap();
    assert_eq!(object["path"].as_array().unwrap().len() as u64, LONG);
    assert!(run(&format!("refs long.fs {:x}", LONG + 7)).contains("is garbage"));
    assert!(run("check long.fs --references").contains("every reference leads"));
}

/// The unreachable objects of the trunk, found in the plainest way.
fn unreachable(storage: &dyn Storage) -> BTreeSet<Oid> {
    let mut refers: BTreeMap<Oid, Vec<Oid>> = BTreeMap::new();
    for record in storage.current_records(Oid::ROOT) {
        let record = record.unwrap();
        let strong = |reference: &Reference<'_>| match reference {
            Reference::Strong { oid, .. } => Some(Oid(*oid)),
            _ => None,
        };
        let found = vellum_pickle::references(&record.data).unwrap();
        refers.insert(record.oid, found.iter().filter_map(strong).collect());
    }
    let (mut reached, mut next) = (BTreeSet::from([Oid::ROOT]), vec![Oid::ROOT]);
    while let Some(oid) = next.pop() {
        next.extend(refers.get(&oid).into_iter().flatten().filter(|to| reached.insert(**to)));
    }
    refers.into_keys().filter(|oid| !reached.contains(oid)).collect()
}

/// The references of an object, strong and weak; none for a tombstone.
type Refers = Option<(Vec<u64>, Vec<u64>)>;

/// One of twelve objects, which may refer to those and to two that are never there.
fn step() -> impl Strategy<Value = (u64, Refers)> {
    let oids = |most: usize| prop::collection::vec(0..14_u64, 0..most);
    (0..12_u64, prop::option::weighted(0.9, (oids(3), oids(2))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of any history `garbage` says what the plainest walk does, and what a pack takes away that collects; and of each
    /// object `refs` says whether it is garbage.
    #[test]
    fn garbage_is_what_a_pack_takes_away(history in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..8)) {
        let sandbox = Sandbox::new();
        let mut site = Site::new(&sandbox, "any.fs");
        site.commit("", "", vec![Store(0, record("Root", &[1, 2], &[], 0))]);
        for changes in history {
            let changes: BTreeMap<_, _> = changes.into_iter().collect();
            let is_there = |oid: u64| site.storage.load(Oid(oid), &Version::TRUNK).is_ok();
            let changes = changes.into_iter().filter_map(|(oid, state)| match state {
                Some((strong, weak)) => Some(Store(oid, record("Any", &strong, &weak, 5))),
                None => (oid != 0 && is_there(oid)).then_some(Delete(oid)),
            });
            let changes = changes.collect();
            site.commit("", "", changes);
        }
        let expected = unreachable(&site.storage);
        let memory = MemoryStorage::new("packed");
        copy(&site.storage, &memory, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
        let how = PackOptions::default().collect(true).go_on(true);
        let packed = memory.pack().unwrap().pack(site.storage.last_transaction(), how).unwrap();
        let oids = |storage: &dyn Storage| -> BTreeSet<Oid> {
            storage.current_records(Oid::ROOT).map(|record| record.unwrap().oid).collect()
        };
        let (all, kept) = (oids(&site.storage), oids(&memory));
        prop_assert_eq!(&all - &kept, expected.clone());
        // Any storage says the same without a pack.
        let whole = MemoryStorage::new("whole");
        copy(&site.storage, &whole, TidRange::ALL, CopyOptions::default(), &mut |_| ()).unwrap();
        let survivors = needed(&whole, &|_| ()).unwrap();
        prop_assert_eq!(all.iter().copied().filter(|oid| !survivors.needs(*oid)).collect::<BTreeSet<_>>(), expected.clone());
        prop_assert_eq!(survivors.dangling(), &packed.dangling[..]);
        let run = sandbox.run(&["garbage", "any.fs", "--list", "--json"]);
        let found = lines(&run).into_iter().filter(|line| line["kind"] == "object");
        let found: BTreeSet<Oid> = found.map(|line| line["oid"].as_str().unwrap().parse().unwrap()).collect();
        prop_assert_eq!(&found, &expected);
        for oid in all.iter().take(3).chain(all.iter().rev().take(1)) {
            let answer = lines(&sandbox.run(&["refs", "any.fs", &oid.to_string(), "--json"]));
            prop_assert_eq!(answer[0]["reachable"].as_bool().unwrap(), !expected.contains(oid));
        }
        // Missing objects with a reachable referrer.
        let nowhere: BTreeSet<Oid> = packed.dangling.into_iter().map(|(_, to)| to).collect();
        let summary = lines(&run).pop().unwrap();
        prop_assert_eq!(summary["missing_objects"].as_u64().unwrap(), nowhere.len() as u64);
        prop_assert_eq!(run.code == 1, !nowhere.is_empty());
    }
}
