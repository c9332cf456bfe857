//! Exports with blobs, as ZODB writes them: the bytes of a blob follow its record.

use std::io::{self, Read};

use vellum_storage::{
    Bytes, ExportError, ExportOptions, MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version, export, import,
};

const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x00.\x80\x03N.";
const FOLDER: &[u8] =
    b"\x80\x03cmail\nFolder\nq\x01.\x80\x03]q\x02(C\x08\0\0\0\0\0\0\0\x02QC\x08\0\0\0\0\0\0\0\x01QC\x08\0\0\0\0\0\0\0\x03Qe.";
const WITHOUT: ExportOptions = ExportOptions::new().without_blobs(true);

/// A folder with two blobs, and a mail between them.
fn site() -> MemoryStorage {
    let storage = MemoryStorage::new("site");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    draft.store(Oid(0), Tid::ZERO, FOLDER.into()).unwrap();
    draft.store(Oid(1), Tid::ZERO, b"\x80\x03cmail\nMail\nq\x01.\x80\x03N."[..].into()).unwrap();
    for (oid, bytes) in [(2, b"a photo".to_vec()), (3, vec![7; 600_000])] {
        draft.store_blob(Oid(oid), Tid::ZERO, RECORD.into(), Bytes::from(bytes).into()).unwrap();
    }
    storage.commit(draft).unwrap();
    storage
}

fn exported(storage: &MemoryStorage, options: ExportOptions) -> Vec<u8> {
    let mut file = Vec::new();
    export(storage, Oid(0), &mut file, options).unwrap();
    file
}

fn imported(to: &MemoryStorage, file: &[u8], options: ExportOptions) -> Result<Oid, ExportError> {
    let draft = to.begin(TransactionMeta::new())?;
    let (draft, report) = import(draft, &mut || to.new_oid(), Storage::blobs(to), &mut &file[..], options)?;
    to.commit(draft)?;
    Ok(report.root)
}

fn entry(oid: u8, record: &[u8], blob: Option<&[u8]>) -> Vec<u8> {
    let mut entry = [&[0, 0, 0, 0, 0, 0, 0, oid], &(record.len() as u64).to_be_bytes()[..], record].concat();
    if let Some(blob) = blob {
        entry.extend([b"\0BLOBSTART", &(blob.len() as u64).to_be_bytes()[..], blob].concat());
    }
    entry
}

#[test]
fn the_bytes_of_a_blob_follow_its_record() {
    let mail = b"\x80\x03cmail\nMail\nq\x01.\x80\x03N.";
    let expected = [
        b"ZEXP".to_vec(),
        entry(0, FOLDER, None),
        entry(2, RECORD, Some(b"a photo")),
        entry(1, mail, None),
        entry(3, RECORD, Some(&[7; 600_000])),
        vec![0xff; 16],
    ];
    let file = exported(&site(), ExportOptions::new());
    assert!(file == expected.concat());

    let mut again = Vec::new();
    let report = export(&site(), Oid(0), &mut again, ExportOptions::new()).unwrap();
    assert_eq!((report.objects, report.blobs, report.blob_bytes), (4, 2, 600_007));
}

#[test]
fn an_import_brings_the_blobs_and_exports_the_same_again() {
    let (to, file) = (MemoryStorage::new("other"), exported(&site(), ExportOptions::new()));
    let root = imported(&to, &file, ExportOptions::new()).unwrap();
    assert_eq!(root, Oid(1));
    let lengths: Vec<_> = (1..5)
        .filter_map(|oid| {
            let tid = to.load(Oid(oid), &Version::TRUNK).unwrap().tid;
            let blob = Storage::blobs(&to)?.load_blob(Oid(oid), tid).ok()?;
            Some(blob.length().unwrap())
        })
        .collect();
    assert_eq!(lengths, [7, 600_000]);
    // Under other oids, and otherwise byte for byte.
    let mut back = Vec::new();
    export(&to, root, &mut back, ExportOptions::new()).unwrap();
    assert_eq!(back.len(), file.len());
    let tail = |file: &[u8]| file[file.len() - 600_000..].to_vec();
    assert!(tail(&back) == tail(&file));
}

#[test]
fn an_import_that_is_cut_off_anywhere_near_a_blob_leaves_nothing() {
    let file = exported(&site(), ExportOptions::new());
    let second = file.len() - 16 - 600_000;
    for end in (100..second + 3).chain([second + 300_000, file.len() - 16, file.len() - 1]) {
        let to = MemoryStorage::new("other");
        match imported(&to, &file[..end], ExportOptions::new()) {
            Err(ExportError::CutOff { position, .. }) => assert_eq!(position, end as u64),
            other => panic!("cut at {end}: {other:?}"),
        }
        assert_eq!(to.last_transaction(), Tid::ZERO);
    }
}

#[test]
fn what_cannot_come_along_is_refused_unless_told() {
    let without = exported(&site(), WITHOUT);
    let with = exported(&site(), ExportOptions::new());
    let to = MemoryStorage::new("other");
    let lacking = imported(&to, &without, ExportOptions::new()).unwrap_err();
    assert!(matches!(lacking, ExportError::Lacking { blobs: 2 }), "{lacking}");
    imported(&to, &without, WITHOUT).unwrap();

    // Nobody takes the bytes.
    let draft = to.begin(TransactionMeta::new()).unwrap();
    let refused = import(draft, &mut || to.new_oid(), None, &mut &with[..], ExportOptions::new()).unwrap_err();
    assert!(matches!(refused, ExportError::Blobs { blobs: 2 }), "{refused}");
    let draft = to.begin(TransactionMeta::new()).unwrap();
    let (draft, report) = import(draft, &mut || to.new_oid(), None, &mut &with[..], WITHOUT).unwrap();
    assert_eq!((report.blobs, report.blob_bytes, report.lacking), (2, 600_007, 0));
    assert!(draft.changes().iter().filter_map(|change| change.data()).all(|data| data.blob().is_none()));
}

#[test]
fn bytes_behind_what_is_no_blob_are_refused() {
    let mail = b"\x80\x03cmail\nMail\nq\x01.\x80\x03N.";
    let file = [b"ZEXP".to_vec(), entry(0, mail, Some(b"hidden")), vec![0xff; 16]].concat();
    let twice = [b"ZEXP".to_vec(), entry(0, RECORD, Some(b"one")), b"\0BLOBSTART\0\0\0\0\0\0\0\x01x".to_vec()].concat();
    for file in [file, twice, b"ZEXP\0BLOBSTART\0\0\0\0\0\0\0\x01x".to_vec()] {
        let refused = imported(&MemoryStorage::new("other"), &file, ExportOptions::new()).unwrap_err();
        assert!(matches!(refused, ExportError::Unreadable { .. }), "{refused}");
    }
}

/// A length is believed only as far as there are bytes.
#[test]
fn a_blob_that_claims_to_be_endless_takes_no_memory() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(self.0 as usize);
            self.0 -= length as u64;
            buffer[..length].fill(1);
            Ok(length)
        }
    }
    let to = MemoryStorage::new("other");
    let head = [b"ZEXP".to_vec(), entry(0, RECORD, None), b"\0BLOBSTART".to_vec(), vec![0xff; 8]].concat();
    let draft = to.begin(TransactionMeta::new()).unwrap();
    let mut from = head.chain(Endless(8 << 20));
    let refused =
        import(draft, &mut || to.new_oid(), Storage::blobs(&to), &mut from, ExportOptions::new()).unwrap_err();
    assert!(matches!(refused, ExportError::CutOff { .. }), "{refused}");
}
