//! Blob folders: ZODB's, as we see and pack them, and ours, as ZODB finds them.
//!
//! `xtask/peer/blobs.py` makes databases in both layouts. Of each
//!
//! - our walk must see every file with the length and the mode that Python says, and nothing else;
//! - a folder that we make of the same bytes must be the same, name by name, with modes and contents;
//! - what ZODB's last pack removed, we remove from a copy of the folder before: what is left must be the same, and what is kept
//!   beside;
//! - ZODB must find every blob in the folder that we made, under the records that it wrote, and go on with it;
//! - FileStorage must find every blob that ZODB left, change some, undo that and pack, and ZODB must find what is left and go
//!   on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use vellum_blob::{BlobFolder, Found, Layout, Opening, Ready};
use vellum_disk::RealDisk;
use vellum_file::{Options, Packing, Unwatched};
use vellum_storage::{Blobs, Oid, Order, Tid, TidRange, TransactionMeta, Version};

use super::{Ground, Trouble, beside, ensure, same};
use crate::{Outcome, venv};

/// So many databases for each of the histories that other checks play.
const HISTORIES_FOR_ONE: u64 = 10;

/// A line of `blobs.py make`.
#[derive(Deserialize)]
struct Made {
    data: PathBuf,
    blobs: PathBuf,
    layout: String,
    keep_old: bool,
    /// Object, transaction, length and mode.
    files: Vec<(u64, u64, u64, u32)>,
}

/// The output of `blobs.py read`.
#[derive(Deserialize)]
struct Read {
    /// Object, transaction, SHA-256 of the bytes.
    found: Vec<(u64, u64, String)>,
    current: u64,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let folder = ground.path("blobs");
    fs::create_dir_all(&folder)?;
    let databases = (ground.histories / HISTORIES_FOR_ONE).max(4).to_string();
    let seed = ground.seed.to_string();
    let said = python(
        ground,
        &["make".as_ref(), &folder, "--databases".as_ref(), databases.as_ref(), "--seed".as_ref(), seed.as_ref()],
    )?;
    let said: Vec<Made> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (mut files, mut removed, mut kept, mut current, mut changed) = (0, 0, 0, 0, 0);
    for made in &said {
        let blobs = open(&made.blobs, None)?;
        same(format_args!("{}: the layout", made.blobs.display()), &blobs.layout().name(), &made.layout.as_str())?;
        walk(&blobs, made)?;
        files += made.files.len();

        let ours = beside(&made.blobs, ".ours");
        copy(&blobs, &ours)?;
        same_trees(&ours, &made.blobs)?;

        removed += pack(made)?;
        kept += u64::from(made.keep_old);

        let data = beside(&made.data, ".ours");
        fs::copy(&made.data, &data)?;
        let read: Read = serde_json::from_str(&python(ground, &["read".as_ref(), &data, &ours])?)?;
        let digest = |&(oid, tid, ..): &(u64, u64, u64, u32)| -> Result<_, Trouble> {
            let bytes = fs::read(blobs.path_of(Oid(oid), Tid(tid)))?;
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            Ok((oid, tid, digest))
        };
        let expected = made.files.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        same(format_args!("{}: what ZODB reads", ours.display()), &expected, &read.found)?;
        // ZODB went on in the folder that we made: what it added there is no stranger to us.
        let after = open(&ours, None)?;
        let strangers: Vec<_> = after.walk().filter(|found| !matches!(found, Ok(Found::Blob { .. }))).collect();
        ensure(strangers.is_empty(), || format!("{}: {strangers:?}", ours.display()))?;
        current += read.current;
        changed += engine(ground, made)?;
    }
    let counts = [removed, current, changed];
    ensure(counts.iter().all(|count| *count > 0), || format!("nothing was looked at: {counts:?}"))?;
    Ok(format!(
        "{} databases, {kept} with what packs keep: {files} files seen and made alike, {removed} removed alike; {current} \
         blobs read by ZODB; {changed} changed by FileStorage",
        said.len()
    ))
}

/// Goes on with a database of ZODB's, and lets ZODB go on with that. Returns how many blobs were changed.
fn engine(ground: &Ground, made: &Made) -> Result<u64, Trouble> {
    let (data, blobs) = (beside(&made.data, ".engine"), beside(&made.blobs, ".engine"));
    fs::copy(&made.data, &data)?;
    copy(&open(&made.blobs, None)?, &blobs)?;
    let storage = Options::new().blobs(&blobs).open(&data)?;
    let folder = storage.blob_folder().ok_or("there is no blob folder")?.clone();
    // A pack of ZODB takes files of blobs that were linked again; their records are still there.
    let mut known = BTreeSet::new();
    for transaction in storage.transactions(TidRange::ALL, Order::OldestFirst)? {
        let transaction = transaction?;
        for revision in transaction.revisions {
            let Some(blob) = revision.blob else { continue };
            let (oid, tid) = (revision.oid, transaction.tid);
            same(format_args!("{oid} of {tid}"), &blob.bytes()?, &fs::read(folder.path_of(oid, tid))?.into())?;
            same("the same blob, asked for", &Blobs::load_blob(&storage, oid, tid)?.bytes()?, &blob.bytes()?)?;
            known.insert((oid.0, tid.0));
        }
    }
    let files: BTreeSet<_> = made.files.iter().map(|&(oid, tid, ..)| (oid, tid)).collect();
    same(format_args!("{}: the blobs of records", blobs.display()), &known, &files)?;
    let mut changed = 0;
    for oid in known.iter().map(|(oid, _)| Oid(*oid)).collect::<BTreeSet<_>>() {
        let loaded = match storage.load(oid, &Version::TRUNK) {
            Ok(loaded) if known.contains(&(oid.0, loaded.tid.0)) => loaded,
            _ => continue,
        };
        let store = |serial: Tid, bytes: &[u8]| -> Result<Tid, Trouble> {
            let mut writer = Blobs::new_blob(&storage)?;
            writer.append(bytes)?;
            let mut draft = storage.begin(TransactionMeta::new().user("/ Vellum"))?;
            draft.store_blob(oid, serial, loaded.data.clone(), writer.finish()?)?;
            Ok(storage.commit(draft)?)
        };
        let first = store(loaded.tid, b"by Vellum")?;
        let second = store(first, b"by Vellum, again")?;
        let mut undo = storage.begin(TransactionMeta::new())?;
        undo.undo(second)?;
        let third = storage.commit(undo)?;
        same("an undone blob", &Blobs::load_blob(&storage, oid, third)?.bytes()?, &"by Vellum".into())?;
        changed += 1;
    }
    storage.pack_with(Tid::MAX, Packing::new().keep_old(made.keep_old), &mut Unwatched)?;
    let mut left = Vec::new();
    for found in folder.walk() {
        let Found::Blob { oid, tid, .. } = found? else { continue };
        let bytes = Blobs::load_blob(&storage, oid, tid)?.bytes()?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        left.push((oid.0, tid.0, digest));
    }
    left.sort_unstable();
    drop(storage);
    let read: Read = serde_json::from_str(&python(ground, &["read".as_ref(), &data, &blobs])?)?;
    same(format_args!("{}: what ZODB reads after FileStorage", blobs.display()), &left, &read.found)?;
    Ok(changed)
}

fn python(ground: &Ground, arguments: &[&Path]) -> Result<String, Trouble> {
    let mut command = Command::new(&ground.python);
    let output = command.arg(venv::script("blobs.py")).args(arguments).output()?;
    ensure(output.status.success(), || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(String::from_utf8(output.stdout)?)
}

fn open(path: &Path, layout: Option<Layout>) -> Result<BlobFolder, Trouble> {
    Ok(BlobFolder::open(Arc::new(RealDisk), path, Opening { layout, ..Opening::default() })?)
}

/// Our walk sees what Python lists.
fn walk(blobs: &BlobFolder, made: &Made) -> Outcome {
    let mut ours = Vec::new();
    for found in blobs.walk() {
        match found? {
            Found::Blob { oid, tid, length, mode } => ours.push((oid.0, tid.0, length, mode)),
            Found::Stranger { path, kind } => return Err(format!("{}: {kind:?} is a stranger", path.display()).into()),
        }
    }
    ours.sort_unstable();
    same(format_args!("{}: the files", made.blobs.display()), &ours, &made.files)
}

/// Makes a folder of the same blobs: those with the usual mode from files of ours, others from files that a client brings.
fn copy(blobs: &BlobFolder, to: &Path) -> Outcome {
    let ours = open(to, Some(blobs.layout()))?;
    let mut places = Vec::new();
    for found in blobs.walk() {
        let Found::Blob { oid, tid, mode, .. } = found? else { continue };
        let bytes = fs::read(blobs.path_of(oid, tid))?;
        let ready: Ready = if mode & 0o7111 == 0 {
            let mut temporary = ours.temporary()?;
            bytes.chunks(10_000).try_for_each(|piece| temporary.append(piece))?;
            temporary.sync()?
        } else {
            let folder = to.join(ours.layout().folder(oid));
            fs::create_dir_all(&folder)?;
            let client = folder.join("client's");
            fs::write(&client, bytes)?;
            fs::set_permissions(&client, fs::Permissions::from_mode(mode | 0o200))?;
            ours.adopt(oid, "client's")?
        };
        ours.place(ready, oid, tid)?;
        places.push((oid, tid));
    }
    Ok(ours.sync(&places)?)
}

/// Removes from the folder before the last pack what ZODB removed. Returns how many files that were.
fn pack(made: &Made) -> Result<u64, Trouble> {
    let before = beside(&made.blobs, ".before");
    let blobs = open(&before, None)?;
    // A pack of ZODB that finds nothing to do leaves its list.
    if let Some(removal) = blobs.left_removal()? {
        removal.carry_out(made.keep_old, |_, _| Ok(true))?;
    }
    let left: BTreeSet<(u64, u64)> = made.files.iter().map(|&(oid, tid, ..)| (oid, tid)).collect();
    let objects: BTreeSet<u64> = left.iter().map(|&(oid, _)| oid).collect();
    let mut list = blobs.list_removal()?;
    let mut listed = BTreeSet::new();
    for found in blobs.walk() {
        match found? {
            Found::Blob { oid, tid, .. } if !left.contains(&(oid.0, tid.0)) => {
                if objects.contains(&oid.0) {
                    list.revision(oid, tid)?;
                } else if listed.insert(oid) {
                    list.object(oid)?;
                }
            }
            _ => {}
        }
    }
    let is_left = |oid: Oid, tid: Tid| Ok(left.contains(&(oid.0, tid.0)));
    let removed = list.finish()?.carry_out(made.keep_old, is_left)?;
    ensure(removed.kept + removed.unreadable == 0, || format!("{}: {removed:?}", before.display()))?;
    same_trees(&before, &made.blobs)?;
    let old = beside(&made.blobs, ".old");
    // There is none if ZODB found nothing to pack.
    if old.exists() {
        same_trees(&beside(&before, ".old"), &old)?;
        ensure(made.keep_old, || format!("{}: ZODB kept it", old.display()))?;
    }
    Ok(removed.files)
}

/// The same names with the same modes and contents, but for what is on its way, and for a list that ZODB left.
fn same_trees(ours: &Path, theirs: &Path) -> Outcome {
    let (one, other) = (tree(ours)?, tree(theirs)?);
    for path in one.keys().chain(other.keys()) {
        let short =
            |entry: Option<&(u32, Vec<u8>)>| entry.map(|(mode, bytes)| (format!("{mode:o}"), Sha256::digest(bytes)));
        let what = || format!("{} and {}: {}", ours.display(), theirs.display(), path.display());
        same(what(), &short(one.get(path)), &short(other.get(path)))?;
    }
    Ok(())
}

fn tree(root: &Path) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>, Trouble> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let about = fs::symlink_metadata(&path)?;
            let inside = path.strip_prefix(root)?.to_owned();
            let is_passed_over = inside.parent() == Some(Path::new("tmp")) || inside == Path::new(".removed");
            let bytes = if about.is_dir() { Vec::new() } else { fs::read(&path)? };
            if about.is_dir() {
                folders.push(path);
            }
            if !is_passed_over {
                found.insert(inside, (about.permissions().mode() & 0o7777, bytes));
            }
        }
    }
    Ok(found)
}
