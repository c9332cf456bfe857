//! A record that does not say what it refers to: its pickle cannot be read, or a persistent id in it has an unknown
//! shape. No command calls an object garbage, or a database sound, because of what it could not look at.

use crate::common::site::{Site, Store, record};
use crate::common::{Sandbox, without_time};
use serde_json::Value;
use vellum_storage::Bytes;

/// A record whose state is `{'b': <a persistent id>}`.
fn holding(id: &[u8]) -> Bytes {
    [b"\x80\x03cshop\nShelf\n.\x80\x03}X\x01\0\0\0b", id, b"Qs."].concat().into()
}

const OID_2: &[u8] = b"C\x08\0\0\0\0\0\0\0\x02";

/// Persistent ids of unknown meaning: each could mean object 2.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let tuple = |end: &[u8]| [b"(", OID_2, end, b"t"].concat();
    vec![
        ("none", b"N".to_vec()),
        ("number", b"K\x02".to_vec()),
        ("large-number", b"\x8a\x08\0\0\0\0\0\0\0\x02".to_vec()),
        ("text", b"X\x01\0\0\x002".to_vec()),
        ("other-text", "X\u{10}\0\0\0éééééééé".as_bytes().to_vec()),
        ("short-bytes", b"C\x01\x02".to_vec()),
        ("empty-tuple", b")".to_vec()),
        ("tuple-of-1", tuple(b"")),
        ("tuple-of-3", tuple(b"NN")),
        ("tuple-of-4", tuple(b"NNN")),
        ("tuple-of-300", tuple(&[b'N'; 299])),
        ("tuple-of-a-number", b"K\x02N\x86".to_vec()),
        ("list-of-3", [b"](", OID_2, b"NNe"].concat()),
        ("unknown-letter", [b"](X\x01\0\0\0z", OID_2, b"\x85e"].concat()),
        ("no-database", [b"](X\x01\0\0\0nN", OID_2, b"\x86e"].concat()),
        ("weak-number", b"](X\x01\0\0\0wK\x02\x85e".to_vec()),
        ("call", [b"cshop\nOid\n", OID_2, b"\x85R"].concat()),
        ("new-object", [b"cshop\nOid\n", OID_2, b"\x85\x81"].concat()),
        ("class", b"cshop\nOid\n".to_vec()),
        ("dict", [b"}X\x01\0\0\0a", OID_2, b"s"].concat()),
    ]
}

/// The kinds of records that may hide references.
fn records() -> Vec<(String, Bytes)> {
    let mut records: Vec<_> = shapes().into_iter().map(|(name, id)| (name.to_owned(), holding(&id))).collect();
    let whole = holding(OID_2);
    records.extend([
        ("no-pickle".to_owned(), Bytes::from("no pickle")),
        ("no-state".to_owned(), whole.slice(..16)),
        ("cut".to_owned(), whole.slice(..whole.len() - 3)),
        ("line".to_owned(), b"\x80\x03cshop\nShelf\n.P2\n.".as_slice().into()),
    ]);
    records
}

/// The root, an object that holds `data`, and two others, which may be needed or not.
fn site(sandbox: &Sandbox, name: &str, data: Bytes) {
    let mut site = Site::new(sandbox, name);
    let product = record("Product", &[], &[], 30);
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1], &[], 0)),
            Store(1, data),
            Store(2, product),
            Store(3, record("Product", &[2], &[], 30)),
        ],
    );
}

/// Rule 4.10.
#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    site(&sandbox, "shape.fs", holding(&[OID_2, b"NN\x87"].concat()));
    site(&sandbox, "broken.fs", Bytes::from("no pickle"));
    let commands: &[&[&str]] = &[
        &["check", "shape.fs"],
        &["check", "shape.fs", "--references"],
        &["garbage", "shape.fs"],
        &["garbage", "shape.fs", "--json"],
        &["refs", "shape.fs", "2"],
        &["refs", "shape.fs", "2", "--json"],
        &["refs", "shape.fs", "1"],
        &["refs", "shape.fs", "7"],
        &["pack", "shape.fs", "--yes"],
        &["pack", "shape.fs", "--yes", "--go-on", "--json"],
        &["pack", "shape.fs", "--dry-run"],
        &["export", "shape.fs", "1", "out.zexp"],
        &["collect", "main=shape.fs", "--yes"],
        &["pack", "shape.fs", "--yes", "--no-collect"],
        &["refs", "shape.fs", "2"],
    ];
    assert_session!("cli-untold-shape", without_time(sandbox.session(commands)));
    let commands: &[&[&str]] = &[
        &["check", "broken.fs", "--references"],
        &["check", "broken.fs", "--references", "--json"],
        &["garbage", "broken.fs"],
        &["refs", "broken.fs", "2"],
        &["refs", "broken.fs", "2", "--json"],
        &["pack", "broken.fs", "--yes"],
    ];
    assert_session!("cli-untold-unreadable", without_time(sandbox.session(commands)));
}

/// Rule 4.10: whatever the record is, nothing is called garbage, nothing goes, and the object is named.
#[test]
fn no_command_looks_past_what_may_hide_a_reference() {
    for (name, data) in records() {
        let sandbox = Sandbox::new();
        site(&sandbox, "shop.fs", data);
        let before = std::fs::read(sandbox.path("shop.fs")).unwrap();
        for (arguments, names_it) in [
            (&["check", "shop.fs"][..], true),
            (&["check", "shop.fs", "--references"], true),
            (&["garbage", "shop.fs"], true),
            (&["garbage", "shop.fs", "--json"], true),
            (&["pack", "shop.fs", "--yes"], true),
            (&["pack", "shop.fs", "--yes", "--go-on"], true),
            (&["pack", "shop.fs", "--dry-run", "--json"], true),
            (&["export", "shop.fs", "0", "out.zexp"], true),
            (&["collect", "main=shop.fs", "--yes"], true),
        ] {
            let run = sandbox.run(arguments);
            assert_eq!(run.code, 1, "{name}: {arguments:?}: {}{}", run.stdout, run.stderr);
            assert!(!names_it || run.stdout.contains("0000000000000001"), "{name}: {arguments:?}: {}", run.stdout);
        }
        for oid in ["2", "3", "7"] {
            let run = sandbox.run(&["refs", "shop.fs", oid, "--json"]);
            let object: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
            assert_eq!((run.code, &object["reachable"]), (1, &"unknown".into()), "{name}: {}", run.stdout);
            assert_eq!(object["untold"][0]["oid"], "0000000000000001", "{name}");
            let shown = sandbox.run(&["refs", "shop.fs", oid]).stdout;
            assert!(shown.contains("cannot be told") && !shown.contains("and is garbage"), "{name}: {shown}");
        }
        let reachable = |oid| {
            let run = sandbox.run(&["refs", "shop.fs", oid, "--json"]);
            let object: Value = serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
            object["reachable"].clone()
        };
        assert_eq!((reachable("0"), reachable("1")), (true.into(), true.into()), "{name}");
        assert!(std::fs::read(sandbox.path("shop.fs")).unwrap() == before, "{name}: something was changed");
        // Without collection no needed object goes.
        assert_eq!(sandbox.run(&["pack", "shop.fs", "--yes", "--no-collect"]).code, 0, "{name}");
        assert_eq!(sandbox.run(&["show", "shop.fs", "2"]).code, 0, "{name}");
    }
}

/// Rule 4.10: a garbage record may hide references, and so may a discarded revision.
#[test]
fn what_nobody_needs_hides_nothing() {
    for (name, data) in records() {
        let sandbox = Sandbox::new();
        let mut site = Site::new(&sandbox, "shop.fs");
        let (root, product) = (record("Root", &[4], &[], 0), record("Product", &[], &[], 30));
        site.commit("ann", "", vec![Store(0, root), Store(1, data.clone()), Store(2, product.clone()), Store(4, data)]);
        site.commit("ann", "", vec![Store(4, product)]);
        drop(site);
        let run = sandbox.run(&["garbage", "shop.fs"]);
        assert!(run.code == 0 && run.stdout.contains("2 objects cannot be reached"), "{name}: {}", run.stdout);
        let run = sandbox.run(&["refs", "shop.fs", "2"]);
        assert!(run.stdout.contains("and is garbage"), "{name}: {}", run.stdout);
        assert_eq!(sandbox.run(&["pack", "shop.fs", "--yes"]).code, 0, "{name}");
        assert_eq!(sandbox.run(&["show", "shop.fs", "2"]).code, 2, "{name}");
        assert_eq!(sandbox.run(&["check", "shop.fs", "--references"]).code, 0, "{name}");
    }
}
