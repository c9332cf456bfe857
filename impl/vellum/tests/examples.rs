//! The examples do what they say.

#[path = "../examples/conflicts.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod conflicts;
#[path = "../examples/first.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod first;
#[cfg(feature = "object")]
#[path = "../examples/mail_index.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod mail_index;
#[cfg(feature = "object")]
#[path = "../examples/objects.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod objects;

#[cfg(feature = "object")]
#[test]
fn objects() {
    let shown = objects::run().unwrap();
    let lines: Vec<&str> = shown.lines().take(2).collect();
    assert_eq!(lines[0], "Message { subject: \"lunch?\", answers: [object 0000000000000002] }");
    assert_eq!(lines[1], "  Message { subject: \"yes\", sender: Some(\"ann\"), priority: 1 }");
}

#[cfg(feature = "object")]
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
