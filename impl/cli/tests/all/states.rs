//! How the command shows pickles: classes in classes, states as text and as JSON, and the messages about old files.

use crate::common;
use crate::common::Sandbox;
use crate::common::site::{Site, Store, StoreIn, record};
use serde_json::Value;
use vellum_storage::{Bytes, Tid, TransactionMeta};

/// A record of a class, with a state.
fn object(class: &[u8], state: &[u8]) -> Bytes {
    [b"\x80\x03", class, b".\x80\x03", state, b"."].concat().into()
}

/// The class `Cart.Item` of the module `shop`, as protocol 3 writes it.
const ITEM: &[u8] = b"cbuiltins\ngetattr\ncshop\nCart\nX\x04\0\0\0Item\x86R";

/// A reference with a class.
fn reference(oid: u64, class: &[u8]) -> Vec<u8> {
    [b"C\x08", &oid.to_be_bytes()[..], class, b"\x86Q"].concat()
}

/// Python names a class in a class by a call: it is a class all the same, and what its objects refer to is needed.
#[test]
fn a_class_in_a_class() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    let root = [b"]", &reference(1, ITEM)[..], b"a"].concat();
    let item = [b"}X\x05\0\0\0price", &reference(2, b"cshop\nPrice\n")[..], b"s"].concat();
    site.commit(
        "ann",
        "",
        vec![
            Store(0, object(b"cshop\nRoot\n", &root)),
            Store(1, object(&[b"(", ITEM, b"K\x01\x85t"].concat(), &item)),
            Store(2, object(b"cshop\nPrice\n", b"K\x05")),
            // The class of this one is an object in the database. Its references count, too.
            Store(3, object(&[&reference(2, b"cshop\nPrice\n")[..], b"N\x86"].concat(), &reference(9, ITEM))),
        ],
    );
    drop(site);
    let commands: &[&[&str]] = &[
        &["show", "shop.fs", "0"],
        &["show", "shop.fs", "1"],
        &["show", "shop.fs", "0", "--json"],
        &["info", "shop.fs"],
        &["check", "shop.fs"],
        &["refs", "shop.fs", "2"],
    ];
    let session = sandbox.session(commands);
    let session: Vec<_> = session.lines().filter(|line| !line.starts_with("  index  ")).collect();
    assert_session!("cli-states-nested-class", session.join("\n"));
}

/// A site whose objects have states of all kinds.
fn kinds(sandbox: &Sandbox) {
    let mut site = Site::new(sandbox, "kinds.fs");
    let state = [
        &b"}q\x00(X\x04\0\0\0selfh\x00X\x05\0\0\0tupleK\x01G\xbf\xf0\0\0\0\0\0\0\x86X\x04\0\0\0@refX\x01\0\0\0x"[..],
        b"X\x05\0\0\0bytesC\x02\0\xffX\x04\0\0\0keys}(K\x01NX\x01\0\0\0a\x88uX\x03\0\0\0big\x8a\x09\0\0\0\0\0\0\0\0\x01",
        b"X\x04\0\0\0nextC\x08\0\0\0\0\0\0\0\x01cBTrees.OOBTree\nOOBucket\n\x86Q",
        b"X\x04\0\0\0weak](X\x01\0\0\0wC\x08\0\0\0\0\0\0\0\x01\x85eQ",
        b"X\x03\0\0\0bad](X\x01\0\0\0wC\x08\0\0\0\0\0\0\0\x01eQ",
        b"X\x04\0\0\0lone\x8c\x03\xed\xa0\x80",
        b"X\x04\0\0\0whencdatetime\ndatetime\nC\x0a\x07\xd3\x84\x01\0\x25\0\0\0\0cpytz\nUTC\n)R\x86R",
        b"X\x05\0\0\0thingcshop\nThing\nK\x01K\x02\x86q\x01R}X\x01\0\0\0aK\x01sb",
        b"X\x04\0\0\0samecshop\nThing\nh\x01R(K\x05eK\x06K\x07su",
    ]
    .concat();
    site.commit(
        "ann",
        "",
        vec![
            Store(0, object(b"cshop\nRoot\n", &state)),
            Store(1, object(b"cBTrees.OOBTree\nOOBucket\n", b"(X\x01\0\0\0aK\x01X\x01\0\0\0bK\x02t\x85")),
        ],
    );
}

#[test]
fn states_as_text_and_as_json() {
    let sandbox = Sandbox::new();
    kinds(&sandbox);
    let commands: &[&[&str]] = &[
        &["show", "kinds.fs", "0"],
        &["show", "kinds.fs", "0", "--json"],
        &["show", "kinds.fs", "1", "--json"],
        &["show", "kinds.fs", "1", "--json", "--btrees"],
        &["show", "kinds.fs", "1", "--btrees"],
        &["dump", "kinds.fs", "--json", "--state", "--btrees"],
        &["dump", "kinds.fs", "--state"],
        &["show", "kinds.fs", "0", "--local"],
    ];
    let mut session = common::story::play(&sandbox, &commands[..7]);
    let mut local = sandbox.command(commands[7]);
    let local = String::from_utf8(local.env("TZ", "Asia/Tokyo").output().unwrap().stdout).unwrap();
    session.push_str(&format!("\n$ TZ=Asia/Tokyo vellum {}\n", commands[7].join(" ")));
    session.extend(local.lines().take(3).map(|line| format!("{line}\n")));
    assert_session!("cli-states", session);
}

/// Dates in zones that are made from earlier dates: each holds the one before it twice.
#[test]
fn a_full_state_is_as_long_as_its_record() {
    let sandbox = Sandbox::new();
    let date = b"q\x01cdatetime\ndatetime\nC\x0a\x07\xd3\x04\x01\0\x25\0\0\0\0cpytz\nZone\nh\x01h\x01\x86R\x86R";
    let mut site = Site::new(&sandbox, "dates.fs");
    let dates = |times: usize| object(b"cshop\nRoot\n", &[b"N", &date.repeat(times)[..]].concat());
    site.commit("ann", "", vec![Store(0, dates(5)), Store(1, dates(10)), Store(2, dates(15))]);
    drop(site);
    for more in [&["--full"][..], &["--json"]] {
        let length = |oid: &str| sandbox.run(&[&["show", "dates.fs", oid], more].concat()).stdout.len();
        let [five, ten, fifteen] = ["0", "1", "2"].map(length);
        // Written out, ten more dates would be a thousand times as long.
        assert!(ten < 5 * five && fifteen < 5 * ten, "{more:?}: {five}, {ten}, {fifteen}");
    }
}

/// JSON says all unless it is asked for less.
#[test]
fn a_log_in_json_is_whole() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "long.fs");
    for n in 0..25 {
        site.commit("ann", &format!("change {n}"), vec![Store(0, record("Root", &[], &[], n))]);
    }
    drop(site);
    let lines =
        |arguments: &[&str]| sandbox.run(arguments).stdout.lines().filter(|line| line.contains("change ")).count();
    assert_eq!(lines(&["log", "long.fs", "--json"]), 25);
    assert_eq!(lines(&["log", "long.fs", "--json", "--undoable"]), 25);
    assert_eq!(lines(&["log", "long.fs", "--json", "-n", "3"]), 3);
    assert_eq!(lines(&["log", "long.fs"]), 20);
    assert!(sandbox.run(&["log", "long.fs"]).stdout.contains("Older ones are not shown"));
    assert_eq!(lines(&["log", "long.fs", "-n", "0"]), 25);
}

#[test]
fn a_copy_that_zodb_cannot_read_is_announced() {
    let sandbox = Sandbox::new();
    sandbox.golden("versions");
    let mut site = Site::new(&sandbox, "open.fs");
    site.commit("ann", "", vec![Store(0, record("Root", &[], &[], 1))]);
    site.commit("ann", "", vec![StoreIn("draft", 0, record("Root", &[], &[], 2))]);
    drop(site);
    let commands: &[&[&str]] = &[
        &["copy", "open.fs", "copy.fs"],
        &["commit-version", "copy.fs", "draft", "--yes"],
        &["copy", "copy.fs", "second.fs", "--json"],
        &["pack", "second.fs", "--yes"],
        &["copy", "second.fs", "third.fs"],
        &["copy", "versions.fs", "new.fs"],
        &["copy", "versions.fs", "new.fs"],
    ];
    assert_session!("cli-states-copy", common::without_time(sandbox.session(commands)));
}

/// Old users are in any encoding, and extensions may hold instances.
#[test]
fn what_python_2_left_in_a_transaction() {
    let sandbox = Sandbox::new();
    let site = Site::new(&sandbox, "old.fs");
    let at = |minute: u64| Tid(Tid::at("2026-11-24T09:00:00Z".parse().unwrap()).0 + (minute << 32));
    let commit = |minute, user: &'static [u8], extension: &'static [u8]| {
        let meta = TransactionMeta::new().user(user).extension(extension).tid(at(minute));
        site.commit_with(meta, vec![Store(0, record("Root", &[], &[], minute as usize))]);
    };
    commit(0, b"Andr\xe9", b"");
    commit(1, "André".as_bytes(), b"}U\x05wherecshop\nPlace\n)\x81}U\x01xK\x05sbs.");
    commit(2, b"ann", b"}U\x01aK\x01s. and more");
    drop(site);
    sandbox.file("empty.fs", b"FS30");
    let commands: &[&[&str]] = &[
        &["log", "old.fs", "--user", "ANDRÉ"],
        &["log", "old.fs", "--json"],
        &["undo", "empty.fs", "last", "--dry-run"],
        &["undo", "old.fs", "2026-11-24 10:00", "--dry-run"],
    ];
    assert_session!("cli-states-python-2", sandbox.session(commands));
    let found: Vec<Value> = sandbox
        .run(&["log", "old.fs", "--user", "andré", "--json"])
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
}
