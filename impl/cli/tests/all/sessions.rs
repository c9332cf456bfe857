//! Each command on golden databases, as a person sees it. The snapshots are in the workspace's `snapshots/`.

use crate::common;
use crate::common::Sandbox;

/// The commands are those that `vellum help` lists, so that a new one is not forgotten here.
#[test]
fn help() {
    let sandbox = Sandbox::new();
    let overview = sandbox.run(&["help"]).stdout;
    let list = overview.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let pages: Vec<[&str; 2]> = names.map(|name| ["help", name]).collect();
    assert!(pages.contains(&["help", "pack"]), "{pages:?}");
    let overviews: [&[&str]; 2] = [&["help"], &["--help"]];
    let commands: Vec<&[&str]> = overviews.into_iter().chain(pages.iter().map(|page| &page[..])).collect();
    assert_session!("cli-help", sandbox.session(&commands));
}

/// How much memory an index takes is the engine's business.
fn without_memory(session: String) -> String {
    let mask = |line: &str| {
        if line.starts_with("  index  ") {
            return "  index         (some memory)".to_owned();
        }
        match line.split_once("\"index_memory_bytes\":") {
            Some((before, after)) => {
                let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
                format!("{before}\"index_memory_bytes\":(some){rest}")
            }
            None => line.to_owned(),
        }
    };
    session.lines().map(mask).collect::<Vec<_>>().join("\n")
}

#[test]
fn info() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("packed").golden("versions").golden("undo");
    let session = |commands: &[&[&str]]| without_memory(sandbox.session(commands));
    let commands: &[&[&str]] = &[&["info", "mail.fs"], &["info", "--classes", "2", "mail.fs"]];
    assert_session!("cli-info-mail", session(commands));
    assert_session!("cli-info-packed", session(&[&["info", "packed.fs"]]));
    assert_session!("cli-info-undo", session(&[&["info", "undo.fs"]]));
    let commands: &[&[&str]] = &[&["info", "versions.fs"], &["info", "--json", "versions.fs"]];
    assert_session!("cli-info-versions", session(commands));
}

#[test]
fn log() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").golden("versions").golden("packed");
    let commands: &[&[&str]] = &[
        &["log", "mail.fs", "-n", "2"],
        &["log", "mail.fs", "--until", "040d2ed75f56a699", "--objects", "3"],
        &["log", "mail.fs", "--object", "2", "--since", "040d2ed75f552a00", "--until", "040d2ed75f552a00"],
        &["log", "mail.fs", "--since", "1 day ago"],
        &["log", "mail.fs", "-n", "1", "--objects", "1", "--json", "--until", "040d2ed75f56a699"],
    ];
    assert_story!("cli-log-mail", sandbox, commands);
    assert_session!(
        "cli-log-undo",
        sandbox.session(&[&["log", "undo.fs", "--object", "10"], &["log", "undo.fs", "-n", "1"]])
    );
    assert_session!("cli-log-versions", sandbox.session(&[&["log", "versions.fs", "--all"]]));
    assert_session!(
        "cli-log-packed",
        sandbox.session(&[&["log", "packed.fs", "--until", "040d2ed76082aeaa", "-n", "3"]])
    );
}

#[test]
fn log_of_what_can_be_undone() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").golden("packed");
    let commands: &[&[&str]] = &[
        &["log", "undo.fs", "--undoable", "-n", "2"],
        &["log", "undo.fs", "--undoable", "-n", "2", "--skip", "2", "--objects", "1"],
        &["log", "undo.fs", "--undoable", "--user", "DELIVER2", "--object", "2", "-n", "1", "--objects", "1"],
        &["log", "undo.fs", "--undoable", "--matching", "Subject F", "--until", "040d2ed7604db422"],
        &["log", "packed.fs", "--undoable", "--objects", "1"],
        &["log", "packed.fs", "--undoable", "--objects", "1", "--json", "--skip", "1"],
        &["log", "packed.fs", "--skip", "2", "-n", "1"],
        &["log", "mail.fs", "--undoable", "--user", "nobody"],
        &["log", "mail.fs", "--undoable", "--object", "ffff"],
    ];
    assert_story!("cli-log-undoable", sandbox, commands);
}

#[test]
fn show() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").golden("versions");
    let commands: &[&[&str]] = &[
        &["show", "mail.fs", "0"],
        &["show", "mail.fs", "4", "--at", "040d2ed75f56a699"],
        &["show", "mail.fs", "4d", "--json"],
        &["show", "mail.fs", "5", "--at", "2 years ago"],
        &["show", "mail.fs", "ffffff"],
    ];
    assert_story!("cli-show-mail", sandbox, commands);
    let commands: &[&[&str]] = &[
        &["show", "undo.fs", "10", "--history"],
        &["show", "undo.fs", "10"],
        &["show", "undo.fs", "19"],
        &["show", "undo.fs", "19", "--history"],
        &["show", "undo.fs", "47", "--at", "040d2ed760501c11"],
        &["show", "undo.fs", "47", "--history", "--json"],
    ];
    assert_story!("cli-show-undo", sandbox, commands);
    let commands: &[&[&str]] = &[
        &["show", "versions.fs", "3"],
        &["show", "versions.fs", "3", "--version", "b"],
        &["show", "versions.fs", "3", "--version", "a"],
        &["show", "versions.fs", "4"],
        &["show", "versions.fs", "1", "--history"],
    ];
    assert_story!("cli-show-versions", sandbox, commands);
}

#[test]
fn dump() {
    let sandbox = Sandbox::new();
    sandbox.golden("versions").golden("undo");
    assert_story!("cli-dump-versions", sandbox, &[&["dump", "versions.fs"]]);
    assert_story!("cli-dump-undo", sandbox, &[&["dump", "undo.fs"]]);
}

#[test]
fn check() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").golden("undo").golden("packed").golden("versions");
    let commands: &[&[&str]] = &[
        &["check", "mail.fs"],
        &["check", "undo.fs"],
        &["check", "packed.fs"],
        &["check", "versions.fs"],
        &["check", "--json", "versions.fs"],
    ];
    assert_session!("cli-check", sandbox.session(commands));
}

/// A byte in the middle of a transaction's length is flipped: only that transaction is lost.
#[test]
fn a_transaction_in_the_middle_is_damaged() {
    let sandbox = Sandbox::new();
    let mut bytes = std::fs::read(common::golden("undo.fs")).unwrap();
    // The length of "subject fourth", which the next transactions build on.
    bytes[85_982 + 15] ^= 0x01;
    sandbox.file("damaged.fs", &bytes);
    let commands: &[&[&str]] = &[
        &["info", "damaged.fs"],
        &["check", "damaged.fs"],
        &["check", "--json", "damaged.fs"],
        &["check", "--max", "1", "damaged.fs"],
        &["recover", "damaged.fs", "recovered.fs"],
        &["check", "recovered.fs"],
        &["log", "recovered.fs", "-n", "3"],
        &["recover", "damaged.fs", "recovered.fs"],
        &["recover", "--json", "damaged.fs", "again.fs"],
    ];
    assert_session!("cli-damaged-middle", sandbox.session(commands));
    assert_eq!(std::fs::read(sandbox.path("damaged.fs")).unwrap(), bytes, "the damaged file was changed");
    let dump = sandbox.run(&["dump", "damaged.fs"]);
    assert_eq!(dump.code, 1);
    assert!(dump.stdout.contains("at 203") && !dump.stdout.contains("subject fourth"), "{}", dump.stdout);
    assert!(dump.stderr.contains("position 85982") && dump.stderr.contains("vellum recover"), "{}", dump.stderr);
}

/// A byte of a record is flipped: every length is right, but the pickle is not.
#[test]
fn a_record_is_damaged() {
    let sandbox = Sandbox::new();
    let mut bytes = std::fs::read(common::golden("versions.fs")).unwrap();
    // The opcode that ends the state of object 3 in its version b.
    let last = 3418 + 42 + 16 + 1 + 49 - 1;
    assert_eq!(bytes[last], b'.');
    bytes[last] = b'\xff';
    sandbox.file("damaged.fs", &bytes);
    let commands: &[&[&str]] = &[
        &["check", "damaged.fs"],
        &["show", "damaged.fs", "3"],
        &["show", "damaged.fs", "3", "--version", "b"],
        &["show", "damaged.fs", "3", "--version", "b", "--json"],
        &["recover", "damaged.fs", "recovered.fs"],
    ];
    assert_session!("cli-damaged-record", sandbox.session(commands));
}

/// The file ends in the middle of its last transaction.
#[test]
fn the_tail_is_cut_off() {
    let sandbox = Sandbox::new();
    let bytes = std::fs::read(common::golden("undo.fs")).unwrap();
    let cut = &bytes[..bytes.len() - 30];
    sandbox.file("cut.fs", cut);
    let mut unfinished = bytes.clone();
    unfinished[89_971 + 16] = b'c';
    sandbox.file("unfinished.fs", &unfinished);
    sandbox.file("torn.fs", &unfinished[..bytes.len() - 30]);
    let commands: &[&[&str]] = &[
        &["log", "cut.fs"],
        &["check", "cut.fs"],
        &["recover", "cut.fs", "recovered.fs"],
        &["check", "recovered.fs"],
        &["log", "-n", "1", "unfinished.fs"],
        &["check", "unfinished.fs"],
        &["recover", "unfinished.fs", "finished.fs"],
        &["log", "-n", "1", "torn.fs"],
    ];
    assert_session!("cli-damaged-tail", sandbox.session(commands));
    for (name, code, word) in [
        ("cut.fs", 0, "is cut at byte 77 of 107"),
        ("unfinished.fs", 0, "not finished"),
        ("torn.fs", 0, "not finished"),
    ] {
        for json in [&["dump", name][..], &["dump", "--json", name]] {
            let dump = sandbox.run(json);
            assert_eq!(dump.code, code, "{name}: {}", dump.stderr);
            assert!(dump.stderr.contains(word), "{name}: {}", dump.stderr);
            assert!(dump.stdout.contains("undo two at once") && !dump.stdout.contains("delete one object"));
        }
    }
}
