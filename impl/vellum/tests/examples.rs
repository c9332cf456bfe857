//! The examples do what they say.

#[path = "../examples/conflicts.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod conflicts;
#[path = "../examples/first.rs"]
#[allow(dead_code, reason = "its main is for people")]
mod first;

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
