//! Garbage in several databases, beside zc.zodbdgc: the same, where both go by the same references.
//!
//! zc.zodbdgc takes every old revision for one that refers, as long as it is in the file; we take the newest, and those
//! of the last days. So where references only grow both must find the same, and else we find what it finds, and more.

use std::collections::BTreeSet;
use std::process::Command;

use vellum_file::FileStorage;
use vellum_storage::{DeleteGarbage, FindGarbage, Storage, Tid, find_garbage};

use super::{Ground, Trouble, ensure, same};
use crate::venv;

const NAMES: [&str; 3] = ["archive", "main", "users"];

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    // Each is six databases for ZODB to make and open.
    let (cases, folder) = (ground.histories.div_ceil(4), ground.path("external"));
    let made = ask(ground, "make", &[cases.to_string(), ground.seed.to_string()])?;
    let (mut found_by_both, mut more) = (0, 0);
    let (mut growing, mut left) = (Vec::new(), Vec::new());
    for (case, line) in made.lines().enumerate() {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (kind, recent) = (words.next().ok_or("no answer")?, words.next().ok_or("no tid")?.parse::<Tid>()?);
        let theirs: BTreeSet<String> = words.collect();
        let storages = NAMES
            .iter()
            .map(|name| FileStorage::open(folder.join(case.to_string()).join(format!("{name}.fs"))))
            .collect::<Result<Vec<_>, _>>()?;
        let databases: Vec<_> =
            NAMES.into_iter().zip(&storages).map(|(name, storage)| (name, storage as &dyn Storage)).collect();
        // There the time itself is recent.
        let since = Tid(recent.0 - 1);
        let garbage = find_garbage(&databases, FindGarbage::new().since(since))?;
        let mut ours = BTreeSet::new();
        for (n, name) in NAMES.iter().enumerate() {
            for object in garbage.objects(n) {
                ours.insert(format!("{name}:{}", object?.oid));
            }
        }
        let what = format!("garbage of case {case} ({kind}), recent from {recent} on");
        if kind == "growing" {
            same(&what, &ours, &theirs)?;
            growing.push(case);
        }
        ensure(theirs.is_subset(&ours), || format!("{what}: we say {ours:?}, zc.zodbdgc says {theirs:?}"))?;
        found_by_both += theirs.len();
        more += ours.len() - theirs.len();
        garbage.delete(&DeleteGarbage::default())?;
        // With nothing that is recent, there may be more now: for both the same.
        let rest = find_garbage(&databases, FindGarbage::new().go_on(true))?;
        left.push(rest.found().iter().map(|found| found.garbage_objects).sum::<u64>());
    }
    let again = ask(ground, "again", &[cases.to_string()])?;
    for case in growing.iter().copied() {
        let theirs = again.lines().nth(case).ok_or("no answer")?.split_whitespace().count() as u64;
        same(format!("the rest in case {case}"), &left[case], &theirs)?;
    }
    ensure(found_by_both > 0 && !growing.is_empty(), || "there was nothing to compare".into())?;
    Ok(format!("{found_by_both} objects are garbage for both, in {cases} sets of databases; {more} for us alone"))
}

/// Has zc.zodbdgc do something with the databases of this check.
fn ask(ground: &Ground, what: &str, arguments: &[String]) -> Result<String, Trouble> {
    let mut command = Command::new(&ground.python);
    command.arg(venv::script("external.py")).arg(what).arg(ground.path("external")).args(arguments);
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
