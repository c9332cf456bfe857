//! Blobs without a folder: a command that touches one says so, and where that would break something it does nothing
//! unless an option says to go on.

use crate::common::site::{Delete, Site, Store, record};
use crate::common::{Sandbox, without_time};
use vellum_storage::{Bytes, Tid};

fn blob() -> Bytes {
    b"\x80\x03cZODB.blob\nBlob\n.\x80\x03N.".as_slice().into()
}

/// A shelf with a photo, which was changed twice, and a product, which was changed as well. The tids of the last change
/// of each, and of a deletion of another photo.
fn site(sandbox: &Sandbox, name: &str) -> [Tid; 3] {
    let mut site = Site::new(sandbox, name);
    let product = |bytes| record("Product", &[], &[], bytes);
    let root = |strong: &[u64]| record("Root", strong, &[], 0);
    site.commit(
        "ann",
        "open the shop",
        vec![Store(0, root(&[1, 2, 3])), Store(1, product(20)), Store(2, blob()), Store(3, blob())],
    );
    site.commit("ann", "another photo", vec![Store(2, blob())]);
    let photo = site.commit("bob", "a better one", vec![Store(2, blob())]);
    let price = site.commit("bob", "a new price", vec![Store(1, product(21))]);
    site.commit("bob", "", vec![Store(0, root(&[1, 2]))]);
    let deleted = site.commit("bob", "away with it", vec![Delete(3)]);
    [photo, price, deleted]
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let [photo, price, _] = site(&sandbox, "shop.fs").map(|tid| tid.to_string());
    let commands: &[&[&str]] = &[
        &["undo", "shop.fs", &photo, "--yes"],
        &["undo", "shop.fs", &photo, "--dry-run", "--json"],
        &["undo", "shop.fs", &price, "--yes"],
        &["export", "shop.fs", "0", "all.zexp"],
        &["export", "shop.fs", "0", "all.zexp", "--without-blobs"],
        &["export", "shop.fs", "1", "product.zexp"],
        &["import", "shop.fs", "all.zexp", "--yes"],
        &["import", "shop.fs", "all.zexp", "--without-blobs", "--dry-run"],
        &["copy", "shop.fs", "copy.fs"],
        &["pack", "shop.fs", "--dry-run"],
        &["pack", "shop.fs", "--yes"],
        &["pack", "shop.fs", "--yes", "--json"],
        &["pack", "shop.fs", "--yes", "--without-blobs"],
        &["undo", "copy.fs", &photo, "--yes", "--without-blobs"],
    ];
    assert_session!("cli-blobs", without_time(sandbox.session(commands)));
}

/// Wherever a blob is concerned the command does nothing, and says how many; where none is, it does its work.
#[test]
fn nothing_breaks_a_blob_unless_it_is_told_to() {
    let sandbox = Sandbox::new();
    let tids = site(&sandbox, "shop.fs");
    let bytes = std::fs::read(sandbox.path("shop.fs")).unwrap();
    let [photo, price, deleted] = tids.map(|tid| tid.to_string());
    assert_eq!(sandbox.run(&["export", "shop.fs", "2", "photo.zexp", "--without-blobs"]).code, 0);
    // As ZODB writes it, with what it holds.
    let export = std::fs::read(sandbox.path("photo.zexp")).unwrap();
    let (records, end) = export.split_at(export.len() - 16);
    sandbox.file("held.zexp", &[records, b"\0BLOBSTART\0\0\0\0\0\0\0\x05photo", end].concat());
    for (arguments, concerned) in [
        (&["undo", "shop.fs", &photo, "--yes"][..], true),
        (&["undo", "shop.fs", &deleted, "--yes"], true),
        (&["undo", "shop.fs", &price, &photo, "--yes"], true),
        (&["undo", "shop.fs", &price, "--yes"], false),
        (&["export", "shop.fs", "2", "out.zexp"], true),
        (&["export", "shop.fs", "0", "out.zexp"], true),
        (&["export", "shop.fs", "1", "out.zexp"], false),
        (&["import", "shop.fs", "photo.zexp", "--yes"], true),
        (&["import", "shop.fs", "held.zexp", "--yes"], true),
        (&["pack", "shop.fs", "--yes"], true),
        (&["pack", "shop.fs", "--yes", "--before", &photo, "--no-collect"], true),
        (&["pack", "shop.fs", "--yes", "--before", "2026-11-24 09:01"], false),
    ] {
        for json in [false, true] {
            sandbox.file("shop.fs", &bytes);
            let _ = std::fs::remove_file(sandbox.path("shop.fs.index"));
            let _ = std::fs::remove_file(sandbox.path("out.zexp"));
            let arguments: Vec<_> = arguments.iter().copied().chain(json.then_some("--json")).collect();
            let run = sandbox.run(&arguments);
            assert_eq!(run.code, i32::from(concerned), "{arguments:?}: {}{}", run.stdout, run.stderr);
            if concerned {
                let counts = |n: u32| run.stdout.contains(&format!("{n} blob"));
                assert!((1..4).any(counts), "{arguments:?}: {}", run.stdout);
                assert!(std::fs::read(sandbox.path("shop.fs")).unwrap() == bytes, "{arguments:?}");
                assert!(!sandbox.path("out.zexp").exists(), "{arguments:?}");
                let told: Vec<_> = arguments.iter().copied().chain(["--without-blobs"]).collect();
                let run = sandbox.run(&told);
                assert_eq!(run.code, 0, "{told:?}: {}{}", run.stdout, run.stderr);
                assert!(run.stdout.contains("blob"), "{told:?}: {}", run.stdout);
            }
        }
    }
}
