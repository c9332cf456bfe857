//! `vellum copy`: the same history in another file, and new transactions added to it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::common::site::{Site, Store, record};
use crate::common::{Sandbox, golden, without_time};
use serde_json::Value;
use vellum_file::FileStorage;
use vellum_storage::{Oid, Order, TidRange, TransactionMeta, TransactionRecord, Version};

const FIRST_MAIL: &str = "040d2ed75f56a699";
const LAST: &str = "040d2ed75fd29fbb";
const GOLDEN: [&str; 5] = ["mail", "undo", "unpacked", "packed", "versions"];

/// The contents of a database, without positions.
fn dump(sandbox: &Sandbox, name: &str) -> Vec<Value> {
    let run = sandbox.run(&["dump", "--json", name]);
    assert_eq!(run.code, 0, "{name}: {}", run.stderr);
    let mut lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(without_places);
    lines
}

fn without_places(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["position", "size", "length", "backpointer"].contains(&name.as_str()));
            // Where a record names one that shares its data in turn, the copy names the one that has it.
            if let Some(holder) = fields.get_mut("data_txn").filter(|holder| !holder.is_null()) {
                *holder = "shared".into();
            }
            fields.values_mut().for_each(without_places);
        }
        Value::Array(values) => values.iter_mut().for_each(without_places),
        _ => {}
    }
}

/// Commits something new.
fn append(sandbox: &Sandbox, name: &str, text: &'static str) {
    let storage = FileStorage::open(sandbox.path(name)).unwrap();
    let now = storage.load(Oid::ROOT, &Version::TRUNK).unwrap();
    let mut change = storage.begin(TransactionMeta::new().user("ann").description(text)).unwrap();
    change.store(Oid::ROOT, now.tid, now.data).unwrap();
    storage.vote(change).unwrap().finish().unwrap();
}

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").golden("versions");
    let commands: &[&[&str]] = &[
        &["copy", "mail.fs", "backup.fs", "--until", FIRST_MAIL],
        &["copy", "mail.fs", "backup.fs", "--since", LAST],
        &["copy", "mail.fs", "backup.fs", "--since", LAST, "--json"],
        &["copy", "mail.fs", "backup.fs", "--json"],
        &["copy", "mail.fs", "backup.fs"],
        &["copy", "mail.fs", "backup.fs", "--json"],
        &["copy", "mail.fs", "backup.fs", "--until", "2020-01-01"],
        &["check", "backup.fs"],
        &["copy", "undo.fs", "backup.fs"],
        &["copy", "undo.fs", "backup.fs", "--json"],
        &["copy", "mail.fs", "part.fs", "--since", LAST],
        &["copy", "mail.fs", "later.fs", "--since", "2027-01-01", "--json"],
        &["copy", "versions.fs", "old.fs"],
    ];
    assert_session!("cli-copy", without_time(sandbox.session(commands)));
}

/// The same transactions, each with its revisions changed like this.
fn rewritten(sandbox: &Sandbox, from: &str, to: &str, count: usize, change: impl Fn(&mut TransactionRecord)) {
    let from = FileStorage::open_read_only(sandbox.path(from)).unwrap();
    let to = FileStorage::create(sandbox.path(to)).unwrap();
    for transaction in from.transactions(TidRange::ALL, Order::OldestFirst).unwrap().take(count) {
        let mut transaction = transaction.unwrap();
        change(&mut transaction);
        let TransactionRecord { tid, user, description, revisions, .. } = transaction;
        let mut draft = to.begin(TransactionMeta::new().user(user).description(description).tid(tid)).unwrap();
        revisions.into_iter().for_each(|revision| draft.restore(revision).unwrap());
        to.commit(draft).unwrap();
    }
}

/// A file that went through RelStorage has the records of a transaction in another order. It is the same history. Real
/// differences are named.
#[test]
fn the_order_of_records_is_no_difference() {
    let sandbox = Sandbox::new();
    let mut site = Site::new(&sandbox, "shop.fs");
    let page = |bytes| record("Page", &[], &[], bytes);
    site.commit(
        "ann",
        "open",
        vec![Store(0, record("Root", &[1, 2, 3], &[], 0)), Store(1, page(1)), Store(2, page(2))],
    );
    site.commit("bob", "all of them", vec![Store(3, page(3)), Store(2, page(20)), Store(1, page(10))]);
    site.commit("bob", "and one more", vec![Store(1, page(11))]);
    drop(site);
    let changed = |to: &str, change: &dyn Fn(&mut TransactionRecord)| {
        rewritten(&sandbox, "shop.fs", to, 2, change);
    };
    changed("sorted.fs", &|t| t.revisions.sort_by_key(|revision| revision.oid));
    changed("backwards.fs", &|t| t.revisions.sort_by_key(|revision| std::cmp::Reverse(revision.oid)));
    changed("record.fs", &|t| t.revisions[1].data = Some(page(99)));
    changed("fewer.fs", &|t| t.revisions.truncate(2));
    changed("more.fs", &|t| t.revisions.push(vellum_storage::Revision { oid: Oid(9), ..t.revisions[0].clone() }));
    changed("other.fs", &|t| t.revisions[0].oid = Oid(9));
    changed("version.fs", &|t| t.revisions[0].version = Version::named("draft"));
    let session = without_time(sandbox.session(&[
        &["copy", "shop.fs", "sorted.fs"],
        &["copy", "shop.fs", "backwards.fs"],
        &["check", "backwards.fs"],
        &["copy", "shop.fs", "record.fs"],
        &["copy", "shop.fs", "fewer.fs"],
        &["copy", "shop.fs", "more.fs"],
        &["copy", "shop.fs", "other.fs"],
        &["copy", "shop.fs", "version.fs"],
    ]));
    assert_session!("cli-copy-order", session);
    for to in ["sorted.fs", "backwards.fs"] {
        assert_eq!(sandbox.run(&["copy", "shop.fs", to]).code, 0, "{to}");
        let last = |name| sandbox.run(&["log", name, "-n", "1", "--json"]).stdout;
        assert_eq!(last(to).replace(to, ""), last("shop.fs").replace("shop.fs", ""), "{to}");
    }
}

/// Everything in a database is in its copy, and in the copy's copy; and then there is nothing new.
#[test]
fn a_copy_is_the_same() {
    let sandbox = Sandbox::new();
    for name in GOLDEN {
        let (file, copy, again) = (format!("{name}.fs"), format!("{name}-1.fs"), format!("{name}-2.fs"));
        sandbox.golden(name);
        for (from, to) in [(&file, &copy), (&copy, &again)] {
            let run = sandbox.run(&["copy", from, to]);
            assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        }
        let expected = dump(&sandbox, &file);
        assert!(dump(&sandbox, &copy) == expected, "{name}");
        assert_eq!(sandbox.run(&["dump", &copy]).stdout, sandbox.run(&["dump", &again]).stdout, "{name}");
        for (from, to) in [(&file, &copy), (&file, &again), (&copy, &again), (&again, &copy)] {
            let run = sandbox.run(&["copy", from, to, "--json"]);
            let answer: Value = serde_json::from_str(&run.stdout).unwrap();
            assert_eq!((run.code, answer["transactions"].as_u64()), (0, Some(0)), "{from} {to}: {}", run.stdout);
            assert_eq!(answer["resumed_after"], answer["last"]);
        }
        assert_eq!(std::fs::read(sandbox.path(&file)).unwrap(), std::fs::read(golden(&file)).unwrap(), "{name}");
    }
}

/// Every night: the transactions since then, and none twice.
#[test]
fn it_goes_on_with_what_is_new() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    assert_eq!(sandbox.run(&["copy", "mail.fs", "backup.fs"]).code, 0);
    for text in ["monday", "tuesday"] {
        append(&sandbox, "mail.fs", text);
        append(&sandbox, "mail.fs", text);
        let run = sandbox.run(&["copy", "mail.fs", "backup.fs"]);
        assert!(run.code == 0 && run.stdout.contains("copied        2 transactions, 2 revisions"), "{}", run.stdout);
        assert!(run.stdout.contains("  after         "), "{}", run.stdout);
        assert!(dump(&sandbox, "backup.fs") == dump(&sandbox, "mail.fs"), "{text}");
    }
    // A change of the copy makes it another database.
    append(&sandbox, "backup.fs", "an accident");
    let run = sandbox.run(&["copy", "mail.fs", "backup.fs"]);
    assert!(run.code == 1 && run.stdout.contains("the source does not have it"), "{}", run.stdout);
}

/// A range has the transactions of that time, and no others.
#[test]
fn a_range() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let all = dump(&sandbox, "mail.fs");
    let tid = |at: usize| all[at]["tid"].as_str().unwrap();
    assert_eq!(sandbox.run(&["copy", "mail.fs", "part.fs", "--since", tid(5), "--until", tid(9)]).code, 0);
    let part = dump(&sandbox, "part.fs");
    assert!(part.iter().map(|line| &line["tid"]).eq(all[5..=9].iter().map(|line| &line["tid"])));
    // To go on exactly there is no gap; to begin later is one, and then nothing is copied.
    assert_eq!(sandbox.run(&["copy", "mail.fs", "part.fs", "--since", tid(10), "--until", tid(12)]).code, 0);
    let before = std::fs::read(sandbox.path("part.fs")).unwrap();
    let run = sandbox.run(&["copy", "mail.fs", "part.fs", "--since", tid(14)]);
    assert!(run.code == 1 && run.stdout.contains(tid(13)), "{}", run.stdout);
    assert_eq!(std::fs::read(sandbox.path("part.fs")).unwrap(), before);
    // Transactions before its end are no gap.
    assert_eq!(sandbox.run(&["copy", "mail.fs", "part.fs", "--since", tid(8), "--until", tid(13)]).code, 0);
    assert_eq!(dump(&sandbox, "part.fs").len(), 9);
}

/// A copy that was stopped in the middle of a transaction loses that one, and can be continued.
#[test]
fn what_was_stopped_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let mut begun = std::fs::read(golden("mail.fs")).unwrap();
    // The last transaction is not marked as finished, and cut off.
    let last = sandbox.run(&["dump", "--json", "mail.fs"]).stdout;
    let last: Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    begun[last["position"].as_u64().unwrap() as usize + 16] = b'c';
    begun.truncate(begun.len() - 30);
    sandbox.file("backup.fs", &begun);
    let run = sandbox.run(&["copy", "mail.fs", "backup.fs"]);
    assert!(run.code == 0 && run.stdout.contains("1 transaction, 16 revisions"), "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("never finished, and are cut off; they are kept in"), "{}", run.stderr);
    assert!(dump(&sandbox, "backup.fs") == dump(&sandbox, "mail.fs"));
    // In the source it is left out, and nothing is cut off.
    sandbox.file("torn.fs", &begun);
    let run = sandbox.run(&["copy", "torn.fs", "whole.fs"]);
    assert!(run.code == 0 && run.stderr.contains("a commit that is not finished"), "{}", run.stderr);
    assert_eq!(std::fs::read(sandbox.path("torn.fs")).unwrap(), begun);
    assert_eq!(dump(&sandbox, "whole.fs").len() + 1, dump(&sandbox, "mail.fs").len());
}

/// A site may have the source open, and no process the copy.
#[test]
fn who_has_them_open() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let site = FileStorage::open(sandbox.path("mail.fs")).unwrap();
    assert_eq!(sandbox.run(&["copy", "mail.fs", "backup.fs"]).code, 0);
    drop(site);
    let reader = FileStorage::open(sandbox.path("backup.fs")).unwrap();
    let run = sandbox.run(&["copy", "mail.fs", "backup.fs"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
    assert!(run.stderr.contains("backup.fs: in use"), "{}", run.stderr);
    drop(reader);
    assert_eq!(sandbox.run(&["copy", "mail.fs", "backup.fs"]).code, 0);
}

/// One file by two names is not copied onto itself.
#[test]
fn the_same_file_twice() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    symlink("mail.fs", sandbox.path("link.fs")).unwrap();
    std::fs::hard_link(sandbox.path("mail.fs"), sandbox.path("second.fs")).unwrap();
    let before = sandbox.files();
    for (from, to) in [
        ("mail.fs", "mail.fs"),
        ("mail.fs", "./mail.fs"),
        ("mail.fs", "link.fs"),
        ("link.fs", "mail.fs"),
        ("mail.fs", "second.fs"),
    ] {
        let run = sandbox.run(&["copy", from, to]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{from} {to}: {}", run.stderr);
        assert!(run.stderr.contains("are the same file"), "{from} {to}: {}", run.stderr);
        assert!(sandbox.files() == before, "{from} {to}");
    }
}

/// A file that is no database is not changed, and an unwritable target fails.
#[test]
fn where_it_can_not_be_written() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").file("text", b"just some text\n").file("empty", b"");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    // To the superuser permissions mean nothing: a folder in the place of the lock keeps every user from opening the
    // file.
    let path = sandbox.path("undo.fs");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    std::fs::create_dir(sandbox.path("undo.fs.lock")).unwrap();
    let before = sandbox.files();
    for (from, to, said) in [
        ("mail.fs", "text", "text: not a database"),
        ("mail.fs", "empty", "empty: the file is empty"),
        ("mail.fs", "folder", "folder: this is a directory"),
        ("mail.fs", "missing/backup.fs", "missing/backup.fs"),
        ("mail.fs", "undo.fs", "undo.fs"),
        ("missing.fs", "backup.fs", "missing.fs: there is no such file"),
        ("text", "backup.fs", "text: not a database"),
    ] {
        let run = sandbox.run(&["copy", from, to]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{from} {to}: {}", run.stderr);
        assert!(run.stderr.contains(said) && run.stderr.lines().count() == 1, "{from} {to}: {}", run.stderr);
        for (name, bytes) in &before {
            assert_eq!(std::fs::read(name).unwrap(), *bytes, "{from} {to}");
        }
    }
    assert!(!sandbox.path("backup.fs").exists());
}

/// The disk is full: the transactions in the copy are complete, the command names the last one, and the copy can be
/// continued.
#[test]
fn the_disk_is_full() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let limited = |kib: u32| {
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" copy mail.fs backup.fs");
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_vellum")]).current_dir(sandbox.path(""));
        let output = command.env("VELLUM_NOW", "2026-11-25T12:00:00Z").stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = limited(100);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is the disk full?"), "{said}");
    assert!(said.contains("Nothing was copied, and backup.fs is a new database with nothing in it"), "{said}");
    assert_eq!(sandbox.run(&["copy", "mail.fs", "backup.fs", "--until", FIRST_MAIL]).code, 0);
    let (code, said) = limited(100);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("Nothing was copied, and backup.fs has what it had before"), "{said}");
    assert_eq!(dump(&sandbox, "backup.fs").len(), 3);
    assert_eq!(sandbox.run(&["copy", "mail.fs", "backup.fs"]).code, 0);
    assert!(dump(&sandbox, "backup.fs") == dump(&sandbox, "mail.fs"));
}
