//! The examples do what they say.

#[path = "../examples/conflicts.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod conflicts;
#[path = "../examples/first.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod first;
#[path = "../examples/mail.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod mail;
#[path = "../examples/mail_index.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod mail_index;
#[path = "../examples/notebook.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod notebook;
#[path = "../examples/objects.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod objects;
#[path = "../examples/site.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod site;
#[path = "../examples/visits.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod visits;

use std::sync::Arc;

#[test]
fn objects() {
    let shown = objects::run().unwrap();
    let lines: Vec<&str> = shown.lines().take(2).collect();
    assert_eq!(lines[0], "Message { subject: \"lunch?\", answers: [object 0000000000000002] }");
    assert_eq!(lines[1], "  Message { subject: \"yes\", sender: Some(\"ann\"), priority: 1 }");
}

#[test]
fn mail_index() {
    let wanted = "Some(1000) messages\nrelease tomorrow 999\nrelease tomorrow 998\nrelease tomorrow 997\n\
                  400 about a release today, the first at Some(1000001)\n1004 words in ";
    let shown = mail_index::run().unwrap();
    assert!(shown.starts_with(wanted), "{shown}");
}

#[test]
fn first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Data.fs");
    first::run(path.clone()).unwrap();
    // Once more, on the existing file.
    first::run(path).unwrap();
}

#[test]
fn conflicts() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(conflicts::run(folder.path().join("Data.fs")).unwrap(), 400);
}

#[test]
fn notebook() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Notes.fs");
    assert_eq!(
        notebook::run(&path).unwrap(),
        "now:
  ghosts [\"memory\"]: A ghost takes 16 bytes. It has no state.
  cache [\"memory\"]: It makes ghosts. -> ghosts
before the last transaction:
  ghosts [\"memory\"]: A ghost takes 16 bytes.
  cache [\"memory\"]: It makes ghosts. -> ghosts
object 0000000000001267 does not exist at now: something refers to an object that was deleted or never stored
"
    );
    // Once more, on the existing file.
    let again = notebook::run(&path).unwrap();
    assert!(
        again.contains("A ghost takes 16 bytes. It has no state.A ghost takes 16 bytes. It has no state."),
        "{again}"
    );
}

#[test]
fn mail() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/mail.fs");
    let before = std::fs::read(golden).unwrap();
    let shown = mail::run(golden.as_ref()).unwrap();
    assert!(shown.contains(" mail.Message\n") && shown.contains("the longest thread has "), "{shown}");
    assert!(!shown.contains("\n0 messages were not seen"), "{shown}");
    assert!(before == std::fs::read(golden).unwrap(), "the file changed");
}

#[test]
fn site() {
    let shown = site::run().unwrap();
    assert_eq!(
        shown.lines().take(6).collect::<Vec<_>>(),
        [
            ": level 0",
            "  folder-0: level 1",
            "    folder-1: level 2",
            "      folder-2: level 3",
            "        folder-3: deep",
            "        page-0: page 0 of 3",
        ]
    );
    assert_eq!(shown.lines().count(), 17, "{shown}");
}

/// Two programs at once, through a server. `cargo xtask peers` has the same with a Python program.
#[test]
fn visits() {
    use vellum_server::{Address, Description, Offered, Server, ServerOptions, Store};

    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(vellum::FileStorage::create(folder.path().join("Data.fs")).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let description = Description {
        location: "visits".to_owned(),
        undoes: true,
        iterates_records: true,
        keeps_blobs: false,
        is_read_only: false,
        interfaces: Vec::new(),
    };
    let offered = vec![Offered { name: "1".to_owned(), description, store: Store::new(storage) }];
    let (anywhere, clock) = ([Address::Tcp("127.0.0.1:0".to_owned())], Arc::new(vellum::storage::SystemClock));
    let server = runtime.block_on(Server::bind(&anywhere, offered, clock, ServerOptions::default())).unwrap();
    let address = server.addresses().unwrap().pop().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    runtime.spawn(server.run(async move { _ = ended.await }));
    let other = address.clone();
    let other = std::thread::spawn(move || visits::run(&other, 30).unwrap());
    visits::run(&address, 30).unwrap();
    other.join().unwrap();
    let shown = visits::run(&address, 0).unwrap();
    assert_eq!(shown, "60 visits; 0 of Rust in 0 transactions");
    drop(end);
}
