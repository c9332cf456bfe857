//! Exports: the same bytes from both engines, and what one of the two exported the other imports.
//!
//! ZODB imports by loading each record and pickling it again, and we by putting other oids in their place, so the
//! imported records are not compared as bytes but as a graph: in the order in which an export has them, which objects
//! does each object refer to? Of ours, every byte that is no oid is the same, too.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use vellum_file::FileStorage;
use vellum_pickle::{Reference, references, rewrite_references};
use vellum_storage::{Bytes, ExportOptions, Oid, Tid, TransactionMeta, export, import};

use super::{Ground, Trouble, clear, ensure, golden, same, same_files};
use crate::venv;

/// Objects of each database that are exported, beside the root.
const OTHERS: usize = 12;
/// A `PersistentMapping` with nothing in it.
const EMPTY: &[u8] =
    b"\x80\x03cpersistent.mapping\nPersistentMapping\nq\x00.\x80\x03}q\x01X\x04\0\0\0dataq\x02}q\x03s.";
const GO_ON: ExportOptions = ExportOptions::new().go_on(true);

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let (mut exports, mut objects) = (0, 0);
    for (name, path) in golden() {
        let storage = FileStorage::open_read_only(&path)?;
        let all = storage.current_records(Oid::ROOT).map(|record| record.map(|record| record.oid));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let oids: Vec<Oid> = all.iter().copied().step_by(all.len().div_ceil(OTHERS).max(1)).collect();
        let out = ground.path("theirs");
        let names: Vec<String> = oids.iter().map(Oid::to_string).collect();
        let paths = [path.display().to_string(), out.display().to_string()];
        ask(ground, &[&["export".to_owned()], &paths[..], &names].concat())?;
        for (oid, name_of) in oids.iter().zip(&names) {
            let ours = ground.path("ours");
            let report = export(&storage, *oid, &mut std::fs::File::create(&ours)?, GO_ON)?;
            same_files(format!("export of {oid} from {name}"), &ours, &out.with_extension(name_of))?;
            exports += 1;
            objects += report.objects;
        }
    }
    let imported = both_import(ground)?;
    Ok(format!("{exports} exports of {objects} objects, byte for byte; {imported} objects imported by both"))
}

/// Imports the mail database's root on both sides, and exports it again on the other one.
fn both_import(ground: &Ground) -> Result<usize, Trouble> {
    let (_, path) = golden().find(|(name, _)| *name == "mail").ok_or("there is no mail database")?;
    let mut file = Vec::new();
    export(&FileStorage::open_read_only(&path)?, Oid::ROOT, &mut file, ExportOptions::default())?;
    let wanted = graph(&file)?;

    let ours = ground.path("imported.fs");
    clear(&ours);
    let storage = FileStorage::create(&ours)?;
    // ZODB opens no database for reading that has no root.
    let mut change = storage.begin(TransactionMeta::new())?;
    change.store(Oid::ROOT, Tid::ZERO, Bytes::from_static(EMPTY))?;
    storage.vote(change)?.finish()?;
    let draft = storage.begin(TransactionMeta::new())?;
    let (draft, report) = import(draft, &mut || storage.new_oid(), None, &mut &file[..], ExportOptions::default())?;
    storage.commit(draft)?;
    let root = report.root;
    drop(storage);
    let out = ground.path("back");
    let name = root.to_string();
    let arguments = ["export", &ours.display().to_string(), &out.display().to_string(), &name];
    ask(ground, &arguments.map(str::to_owned))?;
    let back = std::fs::read(out.with_extension(&name))?;
    same("ZODB's export of our import", &graph(&back)?, &wanted)?;
    let nameless = |file: &[u8]| -> Result<Vec<Vec<u8>>, Trouble> {
        let records = records(file)?.into_iter();
        records.map(|(_, record)| Ok(rewrite_references(record, |_| Some(0))?)).collect()
    };
    same("the same without the oids", &nameless(&back)?, &nameless(&file)?)?;

    let (file, wanted) = without_weak(&path)?;
    let (source, theirs) = (ground.path("ours.zexp"), ground.path("theirs.fs"));
    std::fs::write(&source, &file)?;
    let arguments = ["import", &source.display().to_string(), &theirs.display().to_string()];
    let root: Oid = ask(ground, &arguments.map(str::to_owned))?.trim().parse()?;
    let mut back = Vec::new();
    export(&FileStorage::open_read_only(Path::new(&theirs))?, root, &mut back, ExportOptions::default())?;
    same("our export of ZODB's import", &graph(&back)?, &wanted)?;
    Ok(wanted.len())
}

/// The largest export of the database that has no weak references in it: ZODB exports those, and fails when it imports
/// them.
fn without_weak(path: &Path) -> Result<(Vec<u8>, Graph), Trouble> {
    let storage = FileStorage::open_read_only(path)?;
    let mut largest = (Vec::new(), Graph::new());
    for record in storage.current_records(Oid::ROOT) {
        let mut file = Vec::new();
        export(&storage, record?.oid, &mut file, ExportOptions::default())?;
        let mut weak = false;
        for (_, record) in records(&file)? {
            weak |= references(record)?.iter().any(|reference| !matches!(reference, Reference::Strong { .. }));
        }
        if !weak && file.len() > largest.0.len() {
            largest = (file.clone(), graph(&file)?);
        }
    }
    ensure(largest.1.len() > 10, || "the mail database is too small to show anything".to_owned())?;
    Ok(largest)
}

/// For each object, in an export's order, which ones it refers to, by their numbers in it.
type Graph = Vec<Vec<Option<usize>>>;

/// An export's objects and their records.
fn records(file: &[u8]) -> Result<Vec<(u64, &[u8])>, Trouble> {
    let mut rest = file.strip_prefix(b"ZEXP").ok_or("an export without its head")?;
    let mut found = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        if *header == [0xff; 16] {
            return Ok(found);
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let length = usize::try_from(number(&header[8..]))?;
        let (record, after) = after.split_at_checked(length).ok_or("a record that is cut off")?;
        found.push((number(&header[..8]), record));
        rest = after;
    }
    Err("an export without its end".into())
}

fn graph(file: &[u8]) -> Result<Graph, Trouble> {
    let records = records(file)?;
    let numbers: HashMap<u64, usize> = records.iter().enumerate().map(|(n, (oid, _))| (*oid, n)).collect();
    let links = |record| -> Result<Vec<Option<usize>>, Trouble> {
        let strong = references(record)?.into_iter().filter_map(|reference| match reference {
            Reference::Strong { oid, .. } => Some(numbers.get(&oid).copied()),
            _ => None,
        });
        Ok(strong.collect())
    };
    records.iter().map(|(_, record)| links(record)).collect()
}

fn ask(ground: &Ground, arguments: &[String]) -> Result<String, Trouble> {
    let mut command = Command::new(&ground.python);
    let output = command.arg(venv::script("export.py")).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
