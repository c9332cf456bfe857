//! Blobs beside tables (part 8 of the rules), where the histories of the harness do not look.

use std::path::Path;

use redb::{Database, TableDefinition};
use vellum_harness::node::{Beside, Node};
use vellum_storage::{
    Blob, Bytes, CopyOptions, Error, Oid, Order, PackOptions, Storage, Tid, TidRange, TransactionMeta, Version, copy,
};
use vellum_table::{Options, TableStorage};

use crate::common::files;

const FACTS: TableDefinition<&str, u64> = TableDefinition::new("facts");
const UNOWNED: TableDefinition<(u64, u64), ()> = TableDefinition::new("unowned");

fn options(folder: &Path) -> Options {
    Options::new().blobs(folder.join("blobs"))
}

fn create(folder: &Path) -> TableStorage {
    options(folder).create(folder.join("site.vellum")).unwrap()
}

fn record(to: &[u64]) -> Bytes {
    Node { strong: to.iter().copied().map(Oid).collect(), ..Node::default() }.encode()
}

fn blob_record() -> Bytes {
    Node { beside: Beside::Blob(1), ..Node::default() }.encode()
}

/// Stores an object with these bytes as its blob.
fn store(storage: &TableStorage, oid: u64, bytes: &str) -> Result<Tid, Error> {
    let blobs = storage.blobs().unwrap();
    let mut writer = blobs.new_blob()?;
    writer.append(bytes.as_bytes())?;
    let serial = storage.load(Oid(oid), &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
    let mut draft = storage.begin(TransactionMeta::new())?;
    draft.store_blob(Oid(oid), serial, blob_record(), writer.finish()?)?;
    storage.commit(draft)
}

fn root(storage: &TableStorage, to: &[u64]) -> Tid {
    let serial = storage.load(Oid::ROOT, &Version::TRUNK).map_or(Tid::ZERO, |loaded| loaded.tid);
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid::ROOT, serial, record(to)).unwrap();
    storage.commit(draft).unwrap()
}

fn checked(storage: &TableStorage) {
    storage.check(&mut |problem| panic!("{problem}")).unwrap();
    none_is_noted(storage);
}

fn none_is_noted(storage: &TableStorage) {
    let tables = storage.summary().unwrap();
    assert_eq!(tables.iter().find(|table| table.name == "unowned").unwrap().rows, 0);
}

/// Names of files on their way, and of those that are not a blob's.
fn in_tmp(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("blobs/tmp")).map_or(0, Iterator::count)
}

/// Rule 8.6.
#[test]
fn a_commit_that_cannot_be_written_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let storage = create(folder.path());
    let kept = store(&storage, 1, "one").unwrap();
    drop(storage);
    // From here on no record gets a number. That is found after the files have their names.
    let file = Database::open(folder.path().join("site.vellum")).unwrap();
    let transaction = file.begin_write().unwrap();
    transaction.open_table(FACTS).unwrap().insert("counted to", u64::MAX).unwrap();
    transaction.commit().unwrap();
    drop(file);
    let storage = options(folder.path()).open(folder.path().join("site.vellum")).unwrap();
    let error = store(&storage, 2, "two").unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert_eq!(files(&storage), [(Oid(1), kept)].into());
    assert_eq!(in_tmp(folder.path()), 0);
    none_is_noted(&storage);
    assert_eq!(storage.blobs().unwrap().load_blob(Oid(1), kept).unwrap().bytes().unwrap(), "one");
}

/// Rule 8.4, by counts: at once, and not at the next opening.
#[test]
fn a_pack_by_counts_removes_files() {
    let folder = tempfile::tempdir().unwrap();
    let storage = create(folder.path());
    root(&storage, &[1, 2]);
    store(&storage, 1, "old").unwrap();
    let new = store(&storage, 1, "new").unwrap();
    store(&storage, 2, "of garbage").unwrap();
    root(&storage, &[1]);
    assert_eq!(files(&storage).len(), 3);
    storage.pack_by_counts(Tid::MAX).unwrap();
    assert_eq!(files(&storage), [(Oid(1), new)].into());
    checked(&storage);
}

/// Rule 8.4, with collection. A handle that was loaded before stays good.
#[test]
fn a_pack_removes_files_and_open_ones_can_be_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let storage = create(folder.path());
    root(&storage, &[1]);
    let old = store(&storage, 1, "old").unwrap();
    let new = store(&storage, 1, "new").unwrap();
    let open = storage.blobs().unwrap().load_blob(Oid(1), old).unwrap();
    storage.pack_to(Tid::MAX, PackOptions::default().collect(true)).unwrap();
    assert_eq!(files(&storage), [(Oid(1), new)].into());
    assert_eq!(open.bytes().unwrap(), "old");
    checked(&storage);
}

/// Rule 8.4: a file that cannot be removed ends the pack with an error, after all rows are gone. The next pack goes on.
#[test]
fn a_file_that_cannot_be_removed_leaves_no_half_of_a_pack() {
    let folder = tempfile::tempdir().unwrap();
    let storage = options(folder.path()).step_rows(1).create(folder.path().join("site.vellum")).unwrap();
    root(&storage, &[1]);
    let old = store(&storage, 1, "old").unwrap();
    store(&storage, 1, "also old").unwrap();
    let new = store(&storage, 1, "new").unwrap();
    let path = storage.blobs().unwrap().shared().unwrap().path_of(Oid(1), old);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let collecting = PackOptions::default().collect(true);
    let error = storage.pack_to(Tid::MAX, collecting).unwrap_err();
    assert!(error.to_string().contains(&path.file_name().unwrap().display().to_string()), "{error}");
    let doomed = storage.summary().unwrap().into_iter().find(|table| table.name == "doomed").unwrap();
    assert_eq!(doomed.rows, 0);
    storage.pack_by_counts(Tid::MAX).unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    storage.pack_to(Tid::MAX, collecting).unwrap();
    assert_eq!(files(&storage), [(Oid(1), new)].into());
    checked(&storage);
}

/// An undo gives a file a second name, so neither depends on the other.
#[test]
fn an_undo_brings_the_file_of_then_back_and_a_pack_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let storage = create(folder.path());
    root(&storage, &[1]);
    store(&storage, 1, "first").unwrap();
    let second = store(&storage, 1, "second").unwrap();
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.undo(second).unwrap();
    let undone = storage.commit(draft).unwrap();
    storage.pack_to(Tid::MAX, PackOptions::default().collect(true)).unwrap();
    assert_eq!(storage.blobs().unwrap().load_blob(Oid(1), undone).unwrap().bytes().unwrap(), "first");
    assert_eq!(files(&storage), [(Oid(1), undone)].into());
    checked(&storage);
}

/// A process that was killed after it gave a file its name left this.
#[test]
fn opening_removes_the_files_that_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.vellum");
    let storage = create(folder.path());
    let kept = store(&storage, 1, "one").unwrap();
    let place = |oid, tid| storage.blob_folder().unwrap().path_of(oid, tid);
    let (from, stray) = (place(Oid(1), kept), place(Oid(7), kept.next()));
    drop(storage);
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::copy(from, &stray).unwrap();
    let file = Database::open(&path).unwrap();
    let transaction = file.begin_write().unwrap();
    transaction.open_table(UNOWNED).unwrap().insert((7, kept.next().0), ()).unwrap();
    transaction.commit().unwrap();
    drop(file);
    // A reader changes nothing, and shows nothing of it.
    let reader = options(folder.path()).read_only().open(&path).unwrap();
    assert!(stray.exists() && reader.blobs().unwrap().load_blob(Oid(7), kept.next()).is_err());
    drop(reader);
    // Without the folder it waits.
    drop(TableStorage::open(&path).unwrap());
    assert!(stray.exists());
    let storage = options(folder.path()).open(&path).unwrap();
    assert_eq!(files(&storage), [(Oid(1), kept)].into());
    checked(&storage);
}

#[test]
fn tables_that_were_made_without_a_folder_keep_blobs_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.vellum");
    let storage = TableStorage::create(&path).unwrap();
    root(&storage, &[1]);
    assert!(storage.summary().unwrap().iter().all(|table| table.name != "unowned"));
    drop(storage);
    let reader = Options::new().read_only().open(&path).unwrap();
    reader.check(&mut |problem| panic!("{problem}")).unwrap();
    drop(reader);
    let storage = options(folder.path()).open(&path).unwrap();
    let tid = store(&storage, 1, "one").unwrap();
    assert_eq!(storage.blobs().unwrap().load_blob(Oid(1), tid).unwrap().bytes().unwrap(), "one");
    checked(&storage);
}

#[test]
fn without_a_folder_a_blob_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let storage = TableStorage::create(folder.path().join("site.vellum")).unwrap();
    assert!(storage.blobs().is_none());
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let error = draft.store_blob(Oid(1), Tid::ZERO, blob_record(), Blob::from(Bytes::from("one"))).unwrap_err();
    assert!(error.to_string().contains("without a blob folder"), "{error}");
}

/// Rule 8.5: from a file to tables and back, with blobs that are shared, written over, and in the past.
#[test]
fn copies_both_ways_bring_the_blobs_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = vellum_file::Options::new().blobs(folder.path().join("of-the-file"));
    let source = file.create(folder.path().join("Data.fs")).unwrap();
    let save = |oid: u64, serial: Tid, bytes: &'static str| {
        let mut draft = source.begin(TransactionMeta::new()).unwrap();
        draft.store_blob(Oid(oid), serial, blob_record(), Blob::from(Bytes::from("written over"))).unwrap();
        draft.store_blob(Oid(oid), serial, blob_record(), Blob::from(Bytes::from(bytes))).unwrap();
        source.commit(draft).unwrap()
    };
    let first = save(1, Tid::ZERO, "first");
    let second = save(1, first, "second");
    let mut draft = source.begin(TransactionMeta::new()).unwrap();
    draft.undo(second).unwrap();
    source.commit(draft).unwrap();
    save(2, Tid::ZERO, "");
    let tables = create(folder.path());
    let report = copy(&source, &tables, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
    assert_eq!(report.blob_files, 4);
    checked(&tables);
    let back =
        vellum_file::Options::new().blobs(folder.path().join("back")).create(folder.path().join("back.fs")).unwrap();
    copy(&tables, &back, TidRange::ALL, CopyOptions::new(), &mut |_| ()).unwrap();
    let told = |storage: &dyn Storage| -> Vec<_> {
        let all = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap().map(Result::unwrap);
        let revisions = |transaction: vellum_storage::TransactionRecord| {
            let bytes = |blob: Option<Blob>| blob.map(|blob| blob.bytes().unwrap());
            let each = transaction.revisions.into_iter().map(move |r| (r.oid, r.data, r.source, bytes(r.blob)));
            (transaction.tid, each.collect::<Vec<_>>())
        };
        all.map(revisions).collect()
    };
    assert_eq!(told(&source), told(&tables));
    assert_eq!(told(&source), told(&back));
    drop((back, source));
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("Data.fs") == bytes("back.fs"), "not the same bytes");
}

/// The folder of another database is not taken for that of a new one.
#[test]
fn a_new_database_takes_no_folder_with_blobs() {
    let folder = tempfile::tempdir().unwrap();
    store(&create(folder.path()), 1, "one").unwrap();
    let error = options(folder.path()).create(folder.path().join("other.vellum")).unwrap_err();
    assert!(error.to_string().contains("blobs"), "{error}");
    assert!(!folder.path().join("other.vellum").exists());
}

/// Rule 8.4. A revision without its blob is something else, and a copy would not know.
#[test]
fn a_walk_ends_where_a_pack_removed_a_blob_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let storage = create(folder.path());
    let first = root(&storage, &[1, 2]);
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(2), Tid::ZERO, blob_record()).unwrap();
    let bare = storage.commit(draft).unwrap();
    let old = store(&storage, 1, "old").unwrap();
    store(&storage, 1, "new").unwrap();
    let walk = storage.transactions(TidRange::ALL, Order::OldestFirst).unwrap();
    storage.pack_to(Tid::MAX, PackOptions::default()).unwrap();
    let told: Vec<_> = walk.take(3).collect();
    assert_eq!(told[0].as_ref().unwrap().tid, first);
    // A record of the class that never had one.
    assert_eq!(told[1].as_ref().unwrap().tid, bare);
    assert!(matches!(told[2], Err(Error::BlobPacked { oid: Oid(1), tid }) if tid == old), "{:?}", told[2]);
}
