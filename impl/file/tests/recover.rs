//! What is whole survives damage, and what is lost is said.

use std::path::{Path, PathBuf};

use vellum_file::{Options, check, recover};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden").join(name)
}

/// With nothing to save it from, a database is copied as it is, byte for byte: every pointer that was made again is the
/// one that was there.
#[test]
fn an_undamaged_database_is_copied_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mail.fs", "undo.fs", "unpacked.fs", "packed.fs", "versions.fs"] {
        let out = folder.path().join(name);
        let salvage = recover(&Options::new(), golden(name), &out).unwrap();
        assert_eq!((salvage.lost.len(), salvage.unfinished, salvage.records_lost.len()), (0, 0, 0));
        assert!(std::fs::read(golden(name)).unwrap() == std::fs::read(&out).unwrap(), "{name} differs");
    }
}

fn problems(path: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    check(&Options::new(), path, &mut |problem| problems.push(problem.kind.to_string())).unwrap();
    problems
}

#[test]
fn golden_databases_have_no_problems_but_those_they_were_made_with() {
    for name in ["mail.fs", "unpacked.fs", "packed.fs", "versions.fs"] {
        assert_eq!(problems(&golden(name)), Vec::<String>::new(), "{name}");
    }
    let deleted = problems(&golden("undo.fs"));
    assert!(!deleted.is_empty() && deleted.iter().all(|p| p.contains("deleted or undone")), "{deleted:#?}");
}
