//! `vellum check --btrees`: trees that break their rules, as an operator sees them.

use crate::common::Sandbox;
use crate::common::site::{Site, Store, StoreIn, record};
use serde_json::Value;
use vellum_storage::Bytes;

/// A tuple of values in the pickle language.
fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn to(class: &str, oid: u64) -> Vec<u8> {
    [b"C\x08", &oid.to_be_bytes()[..], format!("cBTrees.OOBTree\n{class}\n").as_bytes(), b"\x86Q"].concat()
}

fn node(class: &str, state: &[Vec<u8>]) -> Bytes {
    [b"\x80\x03", format!("cBTrees.OOBTree\n{class}\n.").as_bytes(), b"\x80\x03", &tuple(state), b"."].concat().into()
}

fn bucket(keys: &str, next: Option<u64>) -> Bytes {
    let items: Vec<_> = keys.split_whitespace().map(|key| [text(key), b"N".to_vec()].concat()).collect();
    let state: Vec<_> = [tuple(&items)].into_iter().chain(next.map(|next| to("OOBucket", next))).collect();
    node("OOBucket", &state)
}

/// A tree of three buckets, the first of which is `first`.
fn tree(first: u64) -> Bytes {
    let (class, of) = ("OOBucket", |number| first + number);
    let children = [to(class, of(0)), text("h"), to(class, of(1)), text("p"), to(class, of(2))];
    node("OOBTree", &[tuple(&children), to(class, first)])
}

/// The index, a tree of the buckets 11 to 13; and a folder, a tree of the buckets 21 to 23.
fn site(sandbox: &Sandbox) -> Site {
    let mut site = Site::new(sandbox, "site.fs");
    site.commit(
        "ann",
        "open the site",
        vec![
            Store(0, record("Root", &[1, 2, 3], &[], 0)),
            Store(1, tree(11)),
            Store(11, bucket("apple banana", Some(12))),
            Store(12, bucket("house", Some(13))),
            Store(13, bucket("peach", None)),
            Store(2, tree(21)),
            Store(21, bucket("a b c", Some(22))),
            Store(22, bucket("h i", Some(23))),
            Store(23, bucket("x y", None)),
            Store(3, node("OOSet", &[tuple(&[b"N".to_vec(), b"cshop\nKey\n)\x81".repeat(2)])])),
        ],
    );
    site
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let mut site = site(&sandbox);
    let whole = sandbox.session(&[&["check", "site.fs", "--btrees"]]);
    site.commit("bob", "a bucket of an older release", vec![Store(12, bucket("house guest guest zebra", None))]);
    site.commit("bob", "a node is missing", vec![Store(23, "no record".into()), Store(22, bucket("", Some(23)))]);
    site.commit("cleo", "a draft", vec![StoreIn("spring", 21, bucket("c b a", Some(22)))]);
    let broken = sandbox.session(&[
        &["check", "site.fs", "--btrees"],
        &["check", "site.fs", "--btrees", "--max", "2"],
        &["check", "site.fs", "--btrees", "--json"],
    ]);
    assert_session!("cli-check-btrees", [whole, broken].join("\n"));
}

fn lines(sandbox: &Sandbox, code: i32) -> Vec<Value> {
    let run = sandbox.run(&["check", "site.fs", "--btrees", "--json"]);
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An object, its broken record, and the rules with the nodes that are named.
type Broken = (u64, Bytes, &'static [(&'static str, u64)]);

/// A node that is broken or cannot be read is in the list, in the summary, and in the exit code.
#[test]
fn what_is_found_is_listed_and_counted() {
    let chain = |line: &Value| line["kind"] == "btree";
    let changes: [Broken; 6] = [
        (11, bucket("banana apple", Some(12)), &[("order", 11)]),
        (11, bucket("apple", Some(11)), &[("next", 11)]),
        (13, bucket("", None), &[("empty_bucket", 13)]),
        (13, bucket("guest", None), &[("below", 13)]),
        (12, node("OOSet", &[tuple(&[])]), &[("class", 12)]),
        (12, node("OOBucket", &[text("a")]), &[("state", 12)]),
    ];
    for (oid, data, expected) in changes {
        let sandbox = Sandbox::new();
        let mut site = site(&sandbox);
        assert!(!lines(&sandbox, 0).iter().any(chain));
        site.commit("bob", "break it", vec![Store(oid, data)]);
        let lines = lines(&sandbox, 1);
        let found: Vec<_> = lines.iter().filter(|line| chain(line)).collect();
        let named: Vec<_> = found
            .iter()
            .map(|line| {
                assert_eq!(line["tree"], "0000000000000001");
                (line["rule"].as_str().unwrap(), u64::from_str_radix(line["node"].as_str().unwrap(), 16).unwrap())
            })
            .collect();
        assert_eq!(named, expected);
        assert_eq!(lines.last().unwrap()["btrees"]["faults"], expected.len() as u64);
    }
    let sandbox = Sandbox::new();
    let mut site = site(&sandbox);
    site.commit("bob", "no record", vec![Store(12, "no record".into())]);
    let summary = lines(&sandbox, 1).pop().unwrap();
    assert_eq!((&summary["btrees"]["faults"], &summary["btrees"]["untold_nodes"]), (&0.into(), &1.into()));
    // A bucket of a class of the site: nothing else is wrong with the file.
    let sandbox = Sandbox::new();
    let mut site = self::site(&sandbox);
    site.commit("bob", "a record", vec![Store(12, record("Orders", &[], &[], 5))]);
    let summary = lines(&sandbox, 1).pop().unwrap();
    assert_eq!((&summary["problems"], &summary["btrees"]["faults"]), (&0.into(), &0.into()));
    assert_eq!((&summary["btrees"]["untold_nodes"], &summary["btrees"]["unreadable_objects"]), (&1.into(), &0.into()));
}
