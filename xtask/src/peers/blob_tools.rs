//! Blobs between ZODB and the commands of `vellum`, on the same data file and the same folder.
//!
//! `xtask/peer/blob_tools.py` makes a database in Plone's layout, with changes, and with a file that a failed commit left. Then
//!
//! - `check` finds every file and the orphan, and `blobs orphans --remove` removes that, and nothing else;
//! - `export` writes what ZODB's `exportFile` writes, byte for byte, and each imports what the other wrote;
//! - `copy`, `undo` and `pack` leave a database and a folder in which ZODB finds every revision of every blob with its bytes;
//! - ZODB goes on, undoes and packs, and what it leaves is without fault for `check`, and is packed again.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::{Ground, Trouble, ensure, same, same_files};
use crate::venv;

/// The output of `blob_tools.py make`.
#[derive(Deserialize)]
struct Made {
    changed: u64,
    tid: u64,
}

/// The output of `blob_tools.py read`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Read {
    /// Object, transaction, SHA-256 of the bytes.
    revisions: Vec<(u64, u64, String)>,
    current: Vec<(u64, String)>,
}

/// A database.
struct Base<'a> {
    ground: &'a Ground,
    vellum: PathBuf,
    data: PathBuf,
    blobs: PathBuf,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let site = ground.path("blob tools");
    std::fs::create_dir_all(site.join("filestorage"))?;
    let base = |data: PathBuf, blobs: PathBuf| -> Result<Base<'_>, Trouble> {
        Ok(Base { ground, vellum: venv::vellum()?, data, blobs })
    };
    let plone = base(site.join("filestorage/Data.fs"), site.join("blobstorage"))?;
    let made: Made = serde_json::from_str(&plone.python("make", &["--seed", &ground.seed.to_string()])?)?;
    let read = plone.read()?;
    let revisions = read.revisions.len();

    let summary = plone.check()?;
    same("the files that check sees", &summary["files"], &Value::from(revisions))?;
    same("the orphan", &summary["orphans"], &Value::from(1))?;
    plone.vellum(&["blobs", "orphans"], &["--remove", "--yes"])?;
    same("the orphan afterwards", &plone.check()?["orphans"], &Value::from(0))?;
    same("what ZODB reads without the orphan", &plone.read()?, &read)?;

    exports(&plone, &site, &base)?;

    let copy = base(site.join("copy.fs"), site.join("copy.fs.blobs"))?;
    plone.vellum(&["copy"], &[&copy.data.display().to_string()])?;
    same("what ZODB reads in a copy", &copy.read()?, &read)?;

    // The last change of a blob is taken back, and then that.
    let now = |read: &Read| read.current.iter().find(|(oid, _)| *oid == made.changed).map(|(_, sha)| sha.clone());
    let before = read.revisions.iter().filter(|(oid, tid, _)| *oid == made.changed && *tid < made.tid);
    let before = before.max_by_key(|(_, tid, _)| *tid).map(|(_, _, sha)| sha.clone());
    ensure(before.is_some() && before != now(&read), || "the blob has no past".to_owned())?;
    let undone = plone.vellum(&["undo"], &[&format!("{:016x}", made.tid), "--yes", "--json"])?;
    same("a blob after an undo", &now(&plone.read()?), &before)?;
    let undone: Value = serde_json::from_str(&undone)?;
    plone.vellum(&["undo"], &[undone["tid"].as_str().unwrap_or_default(), "--yes"])?;
    same("a blob after the undo of an undo", &now(&plone.read()?), &now(&read))?;

    let current = plone.read()?.current;
    plone.vellum(&["pack"], &["--yes"])?;
    let packed = plone.read()?;
    ensure(packed.revisions.len() < revisions, || "nothing was packed".to_owned())?;
    let reachable = |current: &[(u64, String)]| current.iter().filter(|one| packed.current.contains(one)).count();
    same("what is left by our pack", &reachable(&current), &packed.current.len())?;
    let old = base(plone.data.with_extension("fs.old"), site.join("blobstorage.old"))?;
    same("files in what a pack kept", &old.check()?["missing"], &Value::from(0))?;

    // ZODB goes on in both, and we behind it.
    for base in [&plone, &copy] {
        base.python("go-on", &["--seed", "7"])?;
        let after = base.read()?;
        let summary = base.check()?;
        same("files after ZODB went on", &summary["files"], &Value::from(after.revisions.len()))?;
        base.vellum(&["pack"], &["--yes"])?;
        same("what is left after both have packed", &base.read()?.current, &after.current)?;
        same("orphans after both have packed", &base.check()?["orphans"], &Value::from(0))?;
    }
    Ok(format!(
        "{revisions} revisions of {} blobs: checked, exported, copied, undone and packed by both",
        read.current.len()
    ))
}

/// The same exports, and each imports the other's.
fn exports<'a>(
    plone: &Base<'a>,
    site: &Path,
    base: &dyn Fn(PathBuf, PathBuf) -> Result<Base<'a>, Trouble>,
) -> Result<(), Trouble> {
    let (ours, theirs) = (site.join("ours.zexp"), site.join("theirs.zexp"));
    plone.python("export", &["0", &theirs.display().to_string()])?;
    plone.vellum(&["export"], &["0", &ours.display().to_string()])?;
    same_files("an export with blobs", &ours, &theirs)?;
    let held = plone.python("reachable", &["0"])?;

    let by_zodb = base(site.join("by_zodb.fs"), site.join("by_zodb.fs.blobs"))?;
    let root = by_zodb.python("import", &[&ours.display().to_string()])?;
    same("what ZODB imports of ours", &by_zodb.python("reachable", &[root.trim()])?, &held)?;
    by_zodb.check()?;

    // Beside what ZODB has imported.
    let said = by_zodb.vellum(&["import"], &[&theirs.display().to_string(), "--yes", "--json"])?;
    let said: Value = serde_json::from_str(&said)?;
    let root = u64::from_str_radix(said["root"].as_str().unwrap_or_default(), 16)?.to_string();
    same("what we import of ZODB's", &by_zodb.python("reachable", &[&root])?, &held)
}

impl Base<'_> {
    fn python(&self, what: &str, rest: &[&str]) -> Result<String, Trouble> {
        let mut command = Command::new(&self.ground.python);
        command.arg(venv::script("blob_tools.py")).arg(what).arg(&self.data).arg(&self.blobs).args(rest);
        run(command)
    }

    fn read(&self) -> Result<Read, Trouble> {
        Ok(serde_json::from_str(&self.python("read", &[])?)?)
    }

    /// A command on this database, which finds the folder by itself.
    fn vellum(&self, command: &[&str], rest: &[&str]) -> Result<String, Trouble> {
        let mut vellum = Command::new(&self.vellum);
        vellum.args(command).arg(&self.data).args(rest);
        run(vellum)
    }

    /// What `check` says of the blobs; a problem is a failure.
    fn check(&self) -> Result<Value, Trouble> {
        let said = self.vellum(&["check"], &["--read-blobs", "--json"])?;
        let summary: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        Ok(summary["blobs"].clone())
    }
}

fn run(mut command: Command) -> Result<String, Trouble> {
    let output = command.output()?;
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure(output.status.success(), || format!("{command:?}: {}", said()))?;
    Ok(String::from_utf8(output.stdout)?)
}
