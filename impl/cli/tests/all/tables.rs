//! Databases in tables: the commands that take them beside a `Data.fs`, and those that say that they do not.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use crate::common::photos::{DATA, FOLDER, Photos, folder, photos};
use crate::common::site::{Delete, Site, Store, record};
use crate::common::{Run, Sandbox, without_time};
use rustix::process::{Pid, Signal, kill_process};
use vellum_blob::{Found, Layout};
use vellum_file::FileStorage;
use vellum_storage::{Oid, Order, Tid, TidRange, TransactionMeta, Version};
use vellum_table::TableStorage;

const GOLDEN: [&str; 5] = ["mail", "undo", "unpacked", "packed", "versions"];

#[test]
fn sessions() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let commands: &[&[&str]] = &[
        &["copy", "mail.fs", "mail.vellum", "--until", "040d2ed75f56a699"],
        &["copy", "mail.fs", "mail.vellum"],
        &["copy", "mail.fs", "mail.vellum", "--json"],
        &["log", "mail.vellum", "-n", "2"],
        &["log", "mail.vellum", "--object", "0", "--undoable"],
        &["check", "mail.vellum"],
        &["check", "mail.vellum", "--json"],
        &["export", "mail.vellum", "0", "all.zexp", "--json"],
        &["copy", "mail.vellum", "back.fs"],
        &["check", "back.fs"],
        &["copy", "mail.vellum", "back.vellum", "--to-blobs", "blobs"],
    ];
    assert_session!("cli-tables", without_time(sandbox.session(commands)));
}

/// Rule 4.12.
#[test]
fn a_history_free_database() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let commands: &[&[&str]] = &[
        &["copy", "mail.fs", "free.vellum", "--history-free", "--until", "040d2ed75f56a699"],
        &["copy", "mail.fs", "free.vellum", "--history-free"],
        &["copy", "mail.fs", "free.vellum"],
        &["info", "free.vellum"],
        &["check", "free.vellum"],
        &["log", "free.vellum", "-n", "2"],
        &["show", "free.vellum", "1", "--history"],
        &["undo", "free.vellum", "last", "--dry-run"],
        &["undo", "free.vellum", "last", "--yes"],
        &["pack", "free.vellum", "--days", "7", "--yes"],
        &["copy", "free.vellum", "back.fs"],
        &["check", "back.fs"],
        &["recover", "free.vellum", "saved.vellum"],
        &["info", "saved.vellum", "--json"],
        &["serve", "free.vellum", "--history-free", "--grace", "300", "--check-config"],
        &["serve", "back.fs", "--history-free", "--listen", "127.0.0.1:0"],
        &["copy", "mail.fs", "other.fs", "--history-free"],
        &["copy", "mail.fs", "keeping.vellum"],
        &["copy", "mail.fs", "keeping.vellum", "--history-free"],
    ];
    assert_session!("cli-tables-history-free", without_time(sandbox.session(commands)));
    let all = |name: &str| {
        let storage = TableStorage::open(sandbox.path(name)).unwrap();
        let transactions = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
        let oids = transactions.flat_map(|transaction| transaction.unwrap().revisions).map(|revision| revision.oid);
        let mut oids: Vec<_> = oids.collect();
        let count = oids.len();
        oids.sort();
        oids.dedup();
        (storage.is_history_free(), oids, count)
    };
    let (is_history_free, oids, count) = all("free.vellum");
    assert!(is_history_free);
    assert_eq!(oids.len(), count, "each object once");
    assert_eq!(all("saved.vellum"), (true, oids, count));
}

#[test]
fn other_commands_say_that_they_read_a_file_only() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    assert_eq!(sandbox.run(&["copy", "undo.fs", "undo.vellum"]).code, 0);
    let before = sandbox.files();
    let commands: &[&[&str]] = &[&["journal", "show", "undo.vellum"]];
    assert_session!("cli-tables-refused", sandbox.session(commands));
    assert!(sandbox.files() == before, "a refused command changed a file");
}

/// The options of `vellum check` beyond the tables find the same as in a `Data.fs`.
#[test]
fn a_further_look_finds_the_same_as_in_a_file() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    assert_eq!(sandbox.run(&["copy", "undo.fs", "undo.vellum"]).code, 0);
    let commands: &[&[&str]] = &[
        &["check", "undo.vellum", "--references"],
        &["check", "undo.vellum", "--references", "--json"],
        &["check", "undo.vellum", "--classes", "mail.Message", "--max", "2"],
        &["check", "undo.vellum", "--btrees", "--python2"],
    ];
    assert_session!("cli-tables-check", sandbox.session(commands));
    let counts = |file: &str| {
        let told =
            sandbox.run(&["check", file, "--json", "--references", "--classes", "mail", "--btrees", "--python2"]);
        let summary: serde_json::Value = serde_json::from_str(told.stdout.lines().last().unwrap()).unwrap();
        let names = ["dangling_references", "untold_records", "gone_class_objects", "btrees", "python_2_objects"];
        (told.code, names.map(|name| summary[name].clone()))
    };
    for name in ["mail", "undo", "packed", "versions"] {
        let (file, tables) = (format!("{name}.fs"), format!("{name}.vellum"));
        if !sandbox.path(&file).exists() {
            sandbox.golden(name);
        }
        if !sandbox.path(&tables).exists() {
            assert_eq!(sandbox.run(&["copy", &file, &tables]).code, 0);
        }
        assert_eq!(counts(&file).1, counts(&tables).1, "{name}");
    }
}

/// The files of blobs go with the records, as they do beside a `Data.fs`.
#[test]
fn blobs_beside_tables() {
    let sandbox = Sandbox::new();
    let Photos { second, .. } = photos(&sandbox);
    let second = second.to_string();
    let commands: &[&[&str]] = &[
        &["copy", DATA, "site.vellum"],
        &["copy", DATA, "site.vellum"],
        &["info", "site.vellum", "--json"],
        &["check", "site.vellum"],
        &["log", "site.vellum", "-n", "2"],
        &["show", "site.vellum", "2", "--history"],
        &["show", "site.vellum", "2", "--save-blob", "photo.jpg"],
        &["undo", "site.vellum", &second, "--dry-run"],
        &["undo", "site.vellum", &second, "--yes"],
        &["check", "site.vellum", "--json"],
        &["copy", "site.vellum", "back.fs"],
        &["check", "back.fs"],
        &["export", "site.vellum", "0", "all.zexp"],
        &["import", "site.vellum", "all.zexp", "--yes"],
        &["pack", "site.vellum", "--yes"],
        &["check", "site.vellum"],
        &["blobs", "orphans", "site.vellum"],
        &["restore", "site.vellum", "3", "--from", "back.fs", "--at", "2026-11-24 09:01", "--yes"],
        &["recover", "site.vellum", "saved.vellum"],
        &["check", "saved.vellum", "--blobs", "site.vellum.blobs"],
        &["check", "site.vellum", "--blobs", FOLDER],
        &["undo", "site.vellum", "last", "--yes", "--blobs", "elsewhere"],
    ];
    let told = without_time(sandbox.session(commands));
    let told = told.replace(&format!("{}/", sandbox.path("").canonicalize().unwrap().display()), "");
    assert_session!("cli-tables-blobs", told);
    let there = |folder: &str| {
        let folder = folder_of(&sandbox, folder);
        folder.walk().filter(|found| matches!(found, Ok(Found::Blob { .. }))).count()
    };
    assert_eq!((there(FOLDER), there("back.fs.blobs")), (3, 4));
    assert!(!sandbox.path("elsewhere").exists());
    assert_eq!(std::fs::read(sandbox.path("photo.jpg")).unwrap(), [b'x'; 3000]);
}

fn folder_of(sandbox: &Sandbox, name: &str) -> vellum_blob::BlobFolder {
    folder(&sandbox.path(name), Layout::Bushy)
}

/// A pack that would leave the files of forgotten revisions is refused.
#[test]
fn a_pack_of_tables_without_the_folder_is_refused() {
    let sandbox = Sandbox::new();
    photos(&sandbox);
    assert_eq!(sandbox.run(&["copy", DATA, "site.vellum"]).code, 0);
    std::fs::rename(sandbox.path("site.vellum.blobs"), sandbox.path("elsewhere")).unwrap();
    for command in [&["pack", "site.vellum", "--yes"][..], &["pack", "site.vellum", "--auto", "--keep", "1d"]] {
        let run = sandbox.run(command);
        assert!(run.code == 2 && run.stderr.contains("no blob folder is known"), "{}{}", run.stdout, run.stderr);
    }
    let packed = sandbox.run(&["pack", "site.vellum", "--yes", "--blobs", "elsewhere"]);
    assert_eq!(packed.code, 0, "{}", packed.stderr);
    let folder = folder_of(&sandbox, "elsewhere");
    assert_eq!(folder.walk().count(), 1);
}

/// A database that went through tables comes back with the bytes that a copy without them has.
#[test]
fn a_copy_through_tables_has_the_same_bytes() {
    let sandbox = Sandbox::new();
    for name in GOLDEN {
        sandbox.golden(name);
        let [source, plain, tables, back] = ["fs", "plain.fs", "vellum", "back.fs"].map(|end| format!("{name}.{end}"));
        for (from, to) in [(&source, &plain), (&source, &tables), (&tables, &back)] {
            let run = sandbox.run(&["copy", from, to]);
            assert_eq!(run.code, 0, "{from} to {to}: {}", run.stderr);
        }
        let bytes = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
        assert!(bytes(&plain) == bytes(&back), "{name} came back with other bytes");
        assert_eq!(sandbox.run(&["check", &tables]).code, 0, "{name}");
    }
}

#[test]
fn a_copy_goes_on_in_either_kind() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let until: Tid = "040d2ed75f56a699".parse().unwrap();
    let count = |storage: &dyn vellum_storage::Storage| {
        storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap).count()
    };
    let all = count(&FileStorage::open_read_only(sandbox.path("mail.fs")).unwrap());
    for (from, to) in [("mail.fs", "mail.vellum"), ("mail.vellum", "back.fs")] {
        assert_eq!(sandbox.run(&["copy", from, to, "--until", &until.to_string()]).code, 0);
        if to == "back.fs" {
            assert!(count(&FileStorage::open_read_only(sandbox.path(to)).unwrap()) < all);
        } else {
            assert!(count(&TableStorage::open(sandbox.path(to)).unwrap()) < all);
        }
        assert_eq!(sandbox.run(&["copy", from, to]).code, 0);
    }
    assert_eq!(count(&TableStorage::open(sandbox.path("mail.vellum")).unwrap()), all);
    assert_eq!(count(&FileStorage::open_read_only(sandbox.path("back.fs")).unwrap()), all);
    // Another history is refused, whichever kind holds it.
    sandbox.golden("undo");
    for to in ["mail.vellum", "back.fs"] {
        let run = sandbox.run(&["copy", "undo.fs", to]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stdout.contains("nothing was copied"), "{}", run.stdout);
    }
}

fn shop(sandbox: &Sandbox) {
    let mut site = Site::new(sandbox, "shop.fs");
    let page = |bytes| record("Page", &[], &[], bytes);
    site.commit("ann", "open", vec![Store(0, record("Root", &[1, 2], &[], 0)), Store(1, page(10)), Store(2, page(2))]);
    site.commit("bob", "more", vec![Store(1, page(1000))]);
    site.commit("bob", "less", vec![Store(1, page(5)), Store(0, record("Root", &[1], &[], 0))]);
    site.commit("bob", "gone", vec![Delete(2)]);
    drop(site);
    assert_eq!(sandbox.run(&["copy", "shop.fs", "shop.vellum"]).code, 0);
}

#[test]
fn a_copy_is_readable_for_the_same_people() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    let mode = |name: &str| std::fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(sandbox.path("mail.fs"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(sandbox.run(&["copy", "mail.fs", "mail.vellum"]).code, 0);
    assert_eq!(sandbox.run(&["copy", "mail.vellum", "back.fs"]).code, 0);
    for name in ["mail.vellum", "mail.vellum.lock", "back.fs"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn packing() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let commands: &[&[&str]] = &[
        &["info", "shop.vellum"],
        &["pack", "shop.vellum"],
        &["pack", "shop.vellum", "--dry-run"],
        &["pack", "shop.vellum", "--yes", "--keep-log", "log"],
        &["pack", "shop.vellum", "--before", "2026-11-24 09:01", "--yes"],
        &["pack", "shop.vellum", "--yes", "--json"],
        &["pack", "shop.vellum", "--yes"],
        &["check", "shop.vellum"],
        &["info", "shop.vellum", "--json"],
        &["log", "shop.vellum"],
    ];
    assert_session!("cli-tables-pack", without_time(sandbox.session(commands)));
    let packed = TableStorage::open(sandbox.path("shop.vellum")).unwrap();
    assert!(packed.load(Oid(1), &Version::TRUNK).is_ok());
    assert!(packed.load(Oid(2), &Version::TRUNK).is_err());
}

#[test]
fn a_reference_into_another_database_keeps_garbage() {
    let sandbox = Sandbox::new();
    // Python: ['m', ('other', oid, class)], as ZODB writes it.
    let mut foreign =
        b"\x80\x03cshop\nRoot\n.\x80\x03](](X\x01\0\0\0mX\x05\0\0\0otherC\x08\0\0\0\0\0\0\0\x01cshop\nPage\n\x87eQe."
            .to_vec();
    foreign.shrink_to_fit();
    let storage = TableStorage::create(sandbox.path("shop.vellum")).unwrap();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, Tid::ZERO, foreign.into()).unwrap();
    draft.store(Oid(1), Tid::ZERO, record("Page", &[], &[], 1)).unwrap();
    storage.commit(draft).unwrap();
    drop(storage);
    let run = sandbox.run(&["pack", "shop.vellum", "--yes"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("no garbage: object"), "{}", run.stdout);
    let has = || TableStorage::open(sandbox.path("shop.vellum")).unwrap().load(Oid(1), &Version::TRUNK).is_ok();
    assert!(has(), "an object that another database may need is gone");
    assert_eq!(sandbox.run(&["pack", "shop.vellum", "--yes", "--collect"]).code, 0);
    assert!(!has());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_and_stays() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let whole = std::fs::read(sandbox.path("shop.vellum")).unwrap();
    let mut other = whole[..64].to_vec();
    other.resize(whole.len(), 0);
    assert_eq!(sandbox.run(&["export", "shop.fs", "0", "all.zexp"]).code, 0);
    sandbox.file("short.vellum", &whole[..whole.len() / 2]).file("foreign.vellum", &other).file("empty.vellum", b"");
    let before = sandbox.files();
    for name in ["short.vellum", "foreign.vellum", "empty.vellum"] {
        for command in [
            &["info", name][..],
            &["check", name],
            &["log", name],
            &["copy", name, "new.fs"],
            &["pack", name, "--yes"],
            &["show", name, "0"],
            &["dump", name],
            &["refs", name, "0"],
            &["refs", name, "0", "--at", "now"],
            &["garbage", name],
            &["versions", name],
            &["undo", name, "last", "--yes"],
            &["undo", name, "last", "--dry-run"],
            &["commit-version", name, "a", "--yes"],
            &["abort-version", name, "a", "--dry-run"],
            &["import", name, "all.zexp", "--yes"],
            &["restore", name, "--from", "shop.fs", "1", "--yes"],
            &["restore", "shop.fs", "--from", name, "1", "--yes"],
            &["collect", &format!("main={name}"), "--yes"],
        ] {
            let Run { code, stderr, .. } = sandbox.run(command);
            assert_eq!(code, 2, "{command:?}: {stderr}");
            assert!(stderr.contains(name), "{command:?}: {stderr}");
        }
    }
    let mut after = sandbox.files();
    after.retain(|path, _| path.extension().is_none_or(|end| end != "lock"));
    let locks = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "lock");
    assert!(before.iter().filter(|(path, _)| !locks(path)).eq(after.iter()), "a file was changed");
}

/// Writes over the first place with these bytes; or over the whole page around it.
fn damage(sandbox: &Sandbox, name: &str, wanted: &[u8], whole_page: bool) {
    let mut bytes = std::fs::read(sandbox.path(name)).unwrap();
    // The store writes a page anew for each change: the newest one is not the first.
    let places = bytes.windows(wanted.len()).enumerate().filter(|(_, window)| *window == wanted).map(|(at, _)| at);
    let places: Vec<_> = places.collect();
    assert!(!places.is_empty());
    for at in places {
        let (from, to) = if whole_page { (at / 4096 * 4096, at / 4096 * 4096 + 4096) } else { (at, at + wanted.len()) };
        bytes[from..to].fill(b'x');
    }
    sandbox.file(name, &bytes);
}

#[test]
fn recovering() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    for name in ["record.vellum", "heads.vellum"] {
        std::fs::copy(sandbox.path("shop.vellum"), sandbox.path(name)).unwrap();
    }
    // The record of 1000 bytes; and the table of transactions.
    damage(&sandbox, "record.vellum", &[b'-'; 600], false);
    damage(&sandbox, "heads.vellum", b"bob\0\x04less", true);
    let before = sandbox.files();
    let commands: &[&[&str]] = &[
        &["recover", "shop.vellum", "whole.vellum"],
        &["recover", "shop.vellum", "whole.vellum"],
        &["check", "record.vellum"],
        &["recover", "record.vellum", "saved.vellum"],
        &["check", "saved.vellum"],
        &["recover", "record.vellum", "saved.fs", "--json"],
        &["recover", "heads.vellum", "heads.fs"],
        &["log", "heads.fs"],
        &["recover", "heads.vellum", "other.fs", "--new-tids"],
    ];
    assert_session!("cli-tables-recover", sandbox.session(commands));
    for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_none_or(|end| end != "lock")) {
        assert!(sandbox.files()[path] == *bytes, "{}", path.display());
    }
}

/// A sound database comes out as it was, as either kind.
#[test]
fn recovering_loses_nothing_of_a_sound_database() {
    let sandbox = Sandbox::new();
    for name in GOLDEN {
        sandbox.golden(name);
        let [source, tables, one, other] =
            ["fs", "vellum", "one.vellum", "other.fs"].map(|end| format!("{name}.{end}"));
        assert_eq!(sandbox.run(&["copy", &source, &tables]).code, 0);
        let dump = |file: &str| sandbox.run(&["dump", "--json", file]).stdout;
        for to in [&one, &other] {
            let run = sandbox.run(&["recover", &tables, to]);
            assert_eq!(run.code, 0, "{name}: {}{}", run.stdout, run.stderr);
            assert!(run.stdout.contains("nothing"), "{}", run.stdout);
        }
        assert_eq!(dump(&one), dump(&tables), "{name}");
        assert_eq!(sandbox.run(&["copy", &source, "plain.fs"]).code, 0);
        let bytes = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
        assert!(bytes(&other) == bytes("plain.fs"), "{name} came out with other bytes");
        std::fs::remove_file(sandbox.path("plain.fs")).unwrap();
        let _ = std::fs::remove_file(sandbox.path("plain.fs.index"));
    }
}

#[test]
fn a_database_in_use_is_refused() {
    let sandbox = Sandbox::new();
    shop(&sandbox);
    let _open = TableStorage::open(sandbox.path("shop.vellum")).unwrap();
    for command in
        [&["info", "shop.vellum"][..], &["copy", "shop.fs", "shop.vellum"], &["pack", "shop.vellum", "--yes"]]
    {
        let run = sandbox.run(command);
        assert_eq!(run.code, 2, "{command:?}");
        assert!(run.stderr.contains("another process has it open"), "{command:?}: {}", run.stderr);
    }
}

/// A process that is ended whatever happens.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command that packs until it is told to end.
#[test]
fn packing_in_the_background() {
    let sandbox = Sandbox::new();
    sandbox.golden("undo");
    assert_eq!(sandbox.run(&["copy", "undo.fs", "undo.vellum"]).code, 0);
    for signal in [Signal::TERM, Signal::INT] {
        let mut command = sandbox.command(&["pack", "undo.vellum", "--auto", "--keep", "12h"]);
        let mut packing = Ended(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut said = BufReader::new(packing.0.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        assert_eq!(first, "undo.vellum: packing in the background; it ends with SIGTERM or ^C\n");
        let other = sandbox.run(&["info", "undo.vellum"]);
        assert!(other.code != 0 && other.stderr.contains("another process has it open"), "{}", other.stderr);
        kill_process(Pid::from_child(&packing.0), signal).unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!((packing.0.wait().unwrap().code(), rest.as_str()), (Some(0), "ended; the next run goes on\n"));
        assert_eq!(sandbox.run(&["check", "undo.vellum"]).code, 0);
    }
    let refused = sandbox.run(&["pack", "undo.fs", "--auto", "--keep", "12h"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("--auto packs only a database in tables"),
        "{}",
        refused.stderr
    );
}
