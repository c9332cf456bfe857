//! One of several databases: what only the others refer to looks like garbage in it. A pack that sees a reference into
//! another one does not collect unless it is told to, and an export says what leads out of it.

use crate::common::site::{Site, Store, record};
use crate::common::{Sandbox, without_time};
use vellum_storage::Bytes;

/// A record with one persistent id.
fn holding(id: &[u8]) -> Bytes {
    [b"\x80\x03cshop\nShelf\n.\x80\x03](C\x08\0\0\0\0\0\0\0\x02Q", id, b"Qe."].concat().into()
}

const FOREIGN: &[u8] = b"](X\x01\0\0\0nX\x05\0\0\0usersC\x08\0\0\0\0\0\0\0\x07\x86e";
const WITH_CLASS: &[u8] = b"](X\x01\0\0\0m(X\x05\0\0\0usersC\x08\0\0\0\0\0\0\0\x07cshop\nUser\nte";
const WEAK: &[u8] = b"](X\x01\0\0\0wC\x08\0\0\0\0\0\0\0\x07X\x05\0\0\0users\x86e";

/// The root, 1 with such a record, 2 to which it refers, and 3, which no object here needs.
fn site(sandbox: &Sandbox, name: &str, data: Bytes, needed: bool) {
    let mut site = Site::new(sandbox, name);
    let product = record("Product", &[], &[], 30);
    let root = record("Root", if needed { &[1] } else { &[2] }, &[], 0);
    site.commit(
        "ann",
        "open the shop",
        vec![Store(0, root), Store(1, data), Store(2, product.clone()), Store(3, product.clone())],
    );
    site.commit("ann", "a new price", vec![Store(2, product)]);
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    site(&sandbox, "shop.fs", holding(FOREIGN), true);
    let commands: &[&[&str]] = &[
        &["pack", "shop.fs", "--dry-run"],
        &["export", "shop.fs", "1", "shelf.zexp"],
        &["export", "shop.fs", "1", "again.zexp", "--json"],
        &["export", "shop.fs", "2", "product.zexp"],
        &["import", "shop.fs", "shelf.zexp", "--dry-run"],
        &["pack", "shop.fs", "--yes", "--json"],
        &["garbage", "shop.fs"],
        &["pack", "shop.fs", "--yes", "--collect"],
        &["pack", "shop.fs", "--yes", "--collect", "--no-collect"],
    ];
    assert_session!("cli-several", without_time(sandbox.session(commands)));
}

/// Only a reference of a needed object, and one that keeps what it leads to, is a sign of another database; and it is
/// one in each of its forms.
#[test]
fn a_pack_collects_only_where_nothing_leads_out() {
    for (name, id, needed, collects) in [
        ("foreign", FOREIGN, true, false),
        ("with a class", WITH_CLASS, true, false),
        ("weak", WEAK, true, true),
        ("in garbage", FOREIGN, false, true),
        ("none", b"C\x08\0\0\0\0\0\0\0\x02", true, true),
    ] {
        for (more, collects) in [(&[][..], collects), (&["--collect"], true), (&["--no-collect"], false)] {
            let sandbox = Sandbox::new();
            site(&sandbox, "shop.fs", holding(id), needed);
            let log = &["pack", "shop.fs", "--yes", "--keep-log", "log"];
            let run = sandbox.run(&[&log[..], more].concat());
            assert_eq!(run.code, 0, "{name} {more:?}: {}{}", run.stdout, run.stderr);
            let is_there = sandbox.run(&["show", "shop.fs", "3"]).code == 0;
            assert_eq!(is_there, !collects, "{name} {more:?}: {}", run.stdout);
            let says = run.stdout.contains("which") || run.stdout.contains("cannot be told from this one");
            assert_eq!(says, !collects && more.is_empty(), "{name} {more:?}: {}", run.stdout);
            // The log has the pack, once.
            let written = std::fs::read_to_string(sandbox.path("log")).unwrap();
            assert_eq!(written.lines().count(), 1, "{name} {more:?}: {written}");
            assert_eq!(written.contains("\"collected\":[]"), !collects, "{name} {more:?}: {written}");
        }
    }
}
