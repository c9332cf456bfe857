//! `vellum check --python2`: the objects that Python 3 cannot load because of text that Python 2 wrote.

use crate::common::Sandbox;
use crate::common::site::{Site, Store, StoreIn, record};
use serde_json::Value;
use vellum_storage::Bytes;

/// A record as Python 2 writes it, with this state.
fn item(state: &[u8]) -> Bytes {
    [b"cshop\nItem\nq\x01.", state].concat().into()
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    site.commit(
        "ann",
        "open the shop",
        vec![
            Store(0, record("Root", &[1, 2, 3, 4, 5], &[], 0)),
            Store(1, item(b"}q\x02(U\x05titleU\x04caf\xe9U\x04bornq\x03cdatetime\ndate\nU\x04\x07\xe0\x01\x02\x85Ru.")),
            Store(2, item(b"}U\x05titleU\x04cafes.")),
            Store(3, item(b"](U\x01\xe9U\x02\xc3\xa9S'\\xe9'\nT\x01\0\0\0\xffU\x01\x80e.")),
            Store(4, item(b"}X\x05\0\0\0titleX\x05\0\0\0caf\xc3\xa9s.")),
            Store(5, item(b"U\x01\xe9.")),
        ],
    );
    site.commit("bob", "in Python 3", vec![Store(5, item(b"}X\x05\0\0\0titleC\x02a\xe9s."))]);
    site.commit("cleo", "a draft", vec![StoreIn("spring", 2, item(b"}U\x01\xe9U\x04cafes."))]);
    sandbox.golden("versions");
    let session = sandbox.session(&[
        &["check", "shop.fs", "--python2"],
        &["check", "shop.fs", "--python2", "--max", "1"],
        &["check", "shop.fs", "--python2", "--json"],
        &["check", "versions.fs", "--python2"],
    ]);
    // In a file of Python 2 that is as it should be.
    drop(site);
    let mut file = std::fs::read(sandbox.path("shop.fs")).unwrap();
    file[..4].copy_from_slice(b"FS21");
    sandbox.file("old.fs", &file);
    let old = sandbox.session(&[&["check", "old.fs", "--python2", "--max", "1"]]);
    assert_session!("cli-check-python2", [session, old].join("\n"));
}

#[test]
fn a_record_that_cannot_be_read_may_have_such_text() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    site.commit("ann", "open", vec![Store(0, record("Root", &[1], &[], 0)), Store(1, item(b"U\x01e."))]);
    let check = |code: i32| {
        let run = sandbox.run(&["check", "shop.fs", "--python2", "--json"]);
        assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
        serde_json::from_str::<Value>(run.stdout.lines().last().unwrap()).unwrap()
    };
    assert_eq!((&check(0)["python_2_objects"], &check(0)["python_2_unreadable"]), (&0.into(), &0.into()));
    site.commit("eve", "no record", vec![Store(1, "no record".into())]);
    assert_eq!((&check(1)["python_2_objects"], &check(1)["python_2_unreadable"]), (&0.into(), &1.into()));
}
