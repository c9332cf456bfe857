//! The examples do what they say.

#[path = "../examples/conflicts.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod conflicts;
#[path = "../examples/first.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod first;
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
