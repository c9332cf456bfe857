//! Serving databases in tables.

use crate::common::Sandbox;
use crate::common::server::{Serving, are_there, info, newest};

/// Clients see no difference between a database in tables and one in a file.
#[test]
fn a_database_in_tables_is_served() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    assert_eq!(sandbox.run(&["copy", "mail.fs", "mail.vellum"]).code, 0);
    let served = |name: &str| {
        let serving = Serving::start(&mut sandbox.command(&["serve", name, "--listen", "127.0.0.1:0"]), 1);
        let found = newest(serving.address(), "1", 0);
        assert!(info(serving.address(), "1").contains(name));
        let packed = sandbox.run(&["zeopack", serving.address()]);
        assert_eq!(packed.code, 0, "{}", packed.stderr);
        let (code, said) = serving.end();
        assert_eq!(code, Some(0), "{said}");
        found
    };
    assert_eq!(served("mail.fs"), served("mail.vellum"));
    assert_eq!(sandbox.run(&["check", "mail.vellum"]).code, 0);
    // A new one is of the kind that its name says.
    let serving = Serving::start(&mut sandbox.command(&["serve", "new.vellum", "--listen", "127.0.0.1:0"]), 1);
    serving.end();
    assert!(sandbox.run(&["info", "new.vellum"]).stdout.contains("tables"));
    let run = sandbox.run(&["serve", "new.vellum", "--listen", "127.0.0.1:0", "--durability=relaxed"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("one durability"), "{}", run.stderr);
    // With blobs: the folder is made.
    let command = ["serve", "photos.vellum", "--listen", "127.0.0.1:0", "--blobs", "photos"];
    Serving::start(&mut sandbox.command(&command), 1).end();
    assert!(sandbox.path("photos/.layout").exists());
}

/// Rule 4.12: clients are told that there is no undo, and it cannot be the changes of a demo.
#[test]
fn a_history_free_database_is_served_as_what_it_is() {
    let sandbox = Sandbox::new();
    let changes = |name: &str, history_free: &str| {
        let base = "[storages.try.demostorage.base.filestorage]\npath = \"base.fs\"";
        let changes = "[storages.try.demostorage.changes.filestorage]\npath";
        format!("listen = [\"127.0.0.1:0\"]\n{base}\n{changes} = \"{name}\"\n{history_free}\n").into_bytes()
    };
    sandbox.file("demo.toml", &changes("changes.vellum", "history-free = true"));
    sandbox.file("plain.toml", &changes("changes.vellum", ""));
    let refused = |args: &[&str], why: &str| {
        let run = sandbox.run(&[&["serve"], args].concat());
        assert!(run.code == 2 && run.stderr.contains(why), "{args:?}: {} {}", run.code, run.stderr);
        assert_eq!(are_there(&sandbox, &["changes.vellum", "new.vellum", "base.fs"]), [false; 3], "{args:?}");
    };
    refused(&["--config", "demo.toml"], "changes of a demo must keep their history");
    refused(&["--config", "plain.toml", "--history-free"], "changes of a demo must keep their history");
    refused(&["new.vellum", "--grace", "300", "--listen", "127.0.0.1:0"], "grace is for history-free databases");
    let serve = ["serve", "changes.vellum", "--listen", "127.0.0.1:0", "--history-free", "--grace", "300"];
    let serving = Serving::start(&mut sandbox.command(&serve), 1);
    let said = info(serving.address(), "1");
    assert!(!said.contains("IStorageUndoable") && said.contains("IExternalGC"), "{said}");
    serving.end();
    let run = sandbox.run(&["serve", "--config", "plain.toml"]);
    assert!(run.code == 2 && run.stderr.contains("forgets older revisions"), "{} {}", run.code, run.stderr);
    sandbox.golden("mail");
    assert_eq!(sandbox.run(&["copy", "mail.fs", "keeping.vellum"]).code, 0);
    let run = sandbox.run(&["serve", "keeping.vellum", "--grace", "300", "--listen", "127.0.0.1:0"]);
    assert!(run.code == 2 && run.stderr.contains("grace is for history-free databases"), "{} {}", run.code, run.stderr);
}
