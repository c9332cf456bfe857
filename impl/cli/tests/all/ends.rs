//! The end of a file: an unfinished commit, zeros, other bytes, or a gap that the `.index` shows. Only the first is no
//! loss.

use crate::common::site::{Site, Store, record};
use crate::common::{Sandbox, without_time};
use vellum_storage::Tid;

/// Three transactions; where each of them ends.
fn site(sandbox: &Sandbox, name: &str) -> (Vec<usize>, Vec<u8>) {
    let mut site = Site::new(sandbox, name);
    let product = |bytes| record("Product", &[], &[], bytes);
    let mut ends = Vec::new();
    for (what, changes) in [
        ("open the shop", vec![Store(0, record("Root", &[1], &[], 0)), Store(1, product(300))]),
        ("a new price", vec![Store(1, product(310))]),
        ("two more", vec![Store(0, record("Root", &[1, 2, 3], &[], 0)), Store(2, product(700)), Store(3, product(20))]),
    ] {
        site.commit("ann", what, changes);
        ends.push(site.storage.size() as usize);
    }
    drop(site);
    let bytes = std::fs::read(sandbox.path(name)).unwrap();
    (ends, bytes)
}

fn with_end(bytes: &[u8], end: &[u8]) -> Vec<u8> {
    [bytes, end].concat()
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    let (ends, bytes) = site(&sandbox, "shop.fs");
    let index = std::fs::read(sandbox.path("shop.fs.index")).unwrap();
    sandbox.file("zeros.fs", &with_end(&bytes, &[0; 900]));
    sandbox.file("text.fs", &with_end(&bytes, &b"cccc, and what else somebody appends".repeat(20)));
    let mut torn = bytes.clone();
    torn[ends[1] + 16] = b'c';
    torn.truncate(bytes.len() - 30);
    sandbox.file("torn.fs", &torn);
    let commands: &[&[&str]] = &[
        &["log", "zeros.fs", "-n", "1", "--objects", "1"],
        &["check", "zeros.fs"],
        &["recover", "zeros.fs", "out-zeros.fs"],
        &["pack", "zeros.fs", "--yes", "--days", "30"],
        &["log", "text.fs", "-n", "1"],
        &["check", "text.fs"],
        &["recover", "text.fs", "out-text.fs"],
        &["check", "torn.fs"],
        &["recover", "torn.fs", "out-torn.fs"],
    ];
    let ended = without_time(sandbox.session(commands));
    assert_session!("cli-ends", ended);
    sandbox.file("cut.fs", &bytes[..ends[1]]).file("cut.fs.index", &index);
    let mut zeroed = bytes.clone();
    zeroed[ends[1]..].fill(0);
    sandbox.file("zeroed.fs", &zeroed).file("zeroed.fs.index", &index);
    let commands: &[&[&str]] = &[
        &["log", "cut.fs", "-n", "1"],
        &["check", "cut.fs"],
        &["pack", "cut.fs", "--yes"],
        &["recover", "cut.fs", "out-cut.fs"],
        &["recover", "zeroed.fs", "out-zeroed.fs", "--json"],
        &["check", "zeroed.fs"],
        &["pack", "zeroed.fs", "--yes"],
    ];
    let ended = without_time(sandbox.session(commands));
    assert_session!("cli-ends-index", ended);
    for name in ["cut.fs", "zeroed.fs"] {
        let kept = std::fs::read(sandbox.path(&format!("{name}.index"))).unwrap();
        assert!(kept == index, "the index of {name} was changed");
    }
}

/// A copy that was made while a site committed may be cut in its last transaction. Every command reads the file before
/// it, and reports once where it is cut.
#[test]
fn a_copy_that_is_cut_in_its_last_transaction_is_read() {
    let sandbox = Sandbox::new();
    let (ends, bytes) = site(&sandbox, "shop.fs");
    let commands: &[&[&str]] = &[
        &["info", "live.fs"],
        &["log", "live.fs"],
        &["show", "live.fs", "1"],
        &["versions", "live.fs"],
        &["dump", "live.fs"],
        &["refs", "live.fs", "1"],
        &["garbage", "live.fs"],
        &["pack", "live.fs", "--dry-run"],
        &["undo", "live.fs", "last", "--dry-run"],
        &["copy", "live.fs", "copy.fs"],
        &["export", "live.fs", "1", "one.zexp"],
        &["log", "live.fs", "--json"],
        &["dump", "live.fs", "--json"],
    ];
    let (start, end) = (ends[1], bytes.len());
    let length = end - start;
    for there in [17, 22, 23, 30, 60, 200, length - 60, length - 8, length - 1] {
        sandbox.file("live.fs", &bytes[..start + there]);
        let cut = format!("is cut at byte {there} of {length}");
        for command in commands {
            let run = sandbox.run(command);
            let said: Vec<_> = run.stderr.lines().collect();
            assert!(run.code == 0 && said.len() == 1 && said[0].contains(&cut), "{there}, {command:?}: {said:?}");
            assert!(!run.stdout.contains("two more"), "{there}, {command:?}");
        }
        std::fs::remove_file(sandbox.path("copy.fs")).unwrap();
        std::fs::remove_file(sandbox.path("one.zexp")).unwrap();
        for command in
            [&["check", "live.fs"][..], &["check", "live.fs", "--references"], &["recover", "live.fs", "out.fs"]]
        {
            let run = sandbox.run(command);
            assert!(run.code == 1 && (there < 23 || run.stdout.contains(&cut)), "{there}, {command:?}: {}", run.stdout);
        }
        std::fs::remove_file(sandbox.path("out.fs")).unwrap();
        let run = sandbox.run(&["pack", "live.fs", "--yes"]);
        assert!(run.code == 2 && run.stderr.contains("marked as finished"), "{there}: {}", run.stderr);
    }
    sandbox.file("live.fs", &bytes[..start + 200]);
    let commands: &[&[&str]] = &[
        &["log", "live.fs", "-n", "1"],
        &["dump", "live.fs"],
        &["check", "live.fs"],
        &["copy", "live.fs", "copy.fs"],
        &["copy", "shop.fs", "copy.fs"],
        &["recover", "live.fs", "out.fs"],
        &["pack", "live.fs", "--yes"],
    ];
    let session = without_time(sandbox.session(commands));
    assert_session!("cli-ends-live", session);
    // A length that is wrong is damage, and no cut.
    let mut wrong = bytes.clone();
    wrong[start + 8..start + 16].copy_from_slice(&(length as u64 - 8 + 100).to_be_bytes());
    sandbox.file("wrong.fs", &wrong);
    assert_eq!(sandbox.run(&["log", "wrong.fs"]).code, 2);
}

/// For all bytes and lengths: only bytes that begin as a commit are called one.
#[test]
fn only_a_header_that_fits_is_called_a_commit() {
    let sandbox = Sandbox::new();
    let (ends, bytes) = site(&sandbox, "shop.fs");
    let later = Tid::at("2026-11-24T10:00:00Z".parse().unwrap()).to_bytes();
    let header = |tid: [u8; 8], length: u64| [&tid[..], &length.to_be_bytes(), b"c\0\0\0\0\0\0", &[1; 700]].concat();
    let own = bytes[ends[0]..].to_vec();
    for (name, end, is_commit) in [
        ("a header", header(later, 500), true),
        ("a whole one that was not marked", header(later, 723 - 8), true),
        ("one zero", vec![0], false),
        ("zeros", vec![0; 100_000], false),
        ("ones", vec![0xff; 600], false),
        ("text", b"<html>c</html>".repeat(30), false),
        ("a short text", b"hello".to_vec(), false),
        ("c", vec![b'c'; 40], false),
        (
            "an older commit, not marked",
            {
                let mut own = own.clone();
                own[16] = b'c';
                own
            },
            false,
        ),
        ("of the far future", header([0x7f; 8], 500), false),
        ("too long", header(later, 1 << 60), false),
        ("too short", header(later, 3), false),
        ("another database", [b"FS30", &bytes[4..]].concat(), false),
    ] {
        sandbox.file("end.fs", &with_end(&bytes, &end));
        let check = sandbox.run(&["check", "end.fs"]);
        let _ = std::fs::remove_file(sandbox.path("out.fs"));
        let recover = sandbox.run(&["recover", "end.fs", "out.fs"]);
        assert_eq!(check.code, 1, "{name}: {}", check.stdout);
        assert_eq!(check.stdout.contains("a commit that never finished"), is_commit, "{name}: {}", check.stdout);
        assert_eq!(recover.stdout.contains("no loss"), is_commit, "{name}: {}", recover.stdout);
        assert_eq!(recover.code, i32::from(!is_commit), "{name}: {}{}", recover.stdout, recover.stderr);
        assert!(std::fs::read(sandbox.path("out.fs")).unwrap() == bytes, "{name}");
    }
}

/// A file cut anywhere, or filled with zeros from anywhere: what the index knows of it is said, and nothing is changed.
#[test]
fn the_index_says_what_was_there() {
    let sandbox = Sandbox::new();
    let (ends, bytes) = site(&sandbox, "shop.fs");
    let index = std::fs::read(sandbox.path("shop.fs.index")).unwrap();
    for at in [ends[0], ends[0] + 5, ends[0] + 30, ends[1] - 1, ends[1], ends[1] + 10, ends[2] - 400, ends[2] - 1] {
        let mut zeros = bytes.clone();
        zeros[at..].fill(0);
        for (name, damaged) in [("cut", bytes[..at].to_vec()), ("zeros", zeros)] {
            if damaged == bytes {
                continue;
            }
            sandbox.file("shop.fs", &damaged).file("shop.fs.index", &index);
            let lock = sandbox.path("shop.fs.lock");
            let files = || {
                let mut files = sandbox.files();
                files.remove(&lock);
                files
            };
            let before = files();
            let recover = sandbox.run(&["recover", "shop.fs", "out.fs"]);
            assert_eq!(recover.code, 1, "{name} at {at}: {}", recover.stdout);
            assert!(!recover.stdout.contains("no loss"), "{name} at {at}: {}", recover.stdout);
            assert!(recover.stdout.contains("0000000000000003"), "{name} at {at}: {}", recover.stdout);
            let check = sandbox.run(&["check", "shop.fs"]);
            assert!(
                check.code == 1 && check.stdout.contains("keep the .index file"),
                "{name} at {at}: {}",
                check.stdout
            );
            assert!(!check.stdout.contains("remove that file"), "{name} at {at}: {}", check.stdout);
            let pack = sandbox.run(&["pack", "shop.fs", "--yes", "--no-collect"]);
            assert_eq!(pack.code, 2, "{name} at {at}: {}{}", pack.stdout, pack.stderr);
            std::fs::remove_file(sandbox.path("out.fs")).unwrap();
            assert!(files() == before, "{name} at {at}: something was changed");
        }
    }
}
