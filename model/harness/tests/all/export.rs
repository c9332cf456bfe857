//! Exported and imported objects are the same, under other oids.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::past::{empty, play};
use vellum_harness::node::Node;
use vellum_harness::subject::Can;
use vellum_storage::{
    ExportError, ExportOptions, ImportReport, MemoryStorage, Oid, Storage, Tid, TransactionMeta, Version, export,
    import,
};

const GO_ON: ExportOptions = ExportOptions::new().go_on(true);

fn node(storage: &dyn Storage, oid: Oid) -> Option<Node> {
    storage.load(oid, &Version::TRUNK).ok().and_then(|loaded| Node::decode(&loaded.data))
}

/// Walks both graphs at once, and finds out which object is which. The number of objects.
fn isomorphic(from: &dyn Storage, to: &dyn Storage, root: (Oid, Oid)) -> usize {
    let mut names: BTreeMap<Oid, Oid> = BTreeMap::from([root]);
    let mut waiting = VecDeque::from([root]);
    while let Some((old, new)) = waiting.pop_front() {
        let (Some(there), Some(here)) = (node(from, old), node(to, new)) else {
            assert_eq!((node(from, old), node(to, new)), (None, None), "dangling in both, or in none");
            continue;
        };
        let plain = |node: &Node| (node.counter, node.number, node.foreign.clone());
        assert_eq!(plain(&there), plain(&here), "values that are no references of this database stay");
        assert_eq!((there.strong.len(), there.weak.len()), (here.strong.len(), here.weak.len()));
        for (old, new) in there.strong.into_iter().zip(here.strong) {
            let before = names.insert(old, new);
            assert!(before.is_none_or(|before| before == new), "{old} is {new} everywhere");
            waiting.extend(before.is_none().then_some((old, new)));
        }
        for (old, new) in there.weak.into_iter().zip(here.weak) {
            let before = *names.entry(old).or_insert(new);
            assert_eq!(before, new, "{old} is {new} in weak references, too");
        }
    }
    let others: BTreeSet<_> = names.values().collect();
    assert_eq!(others.len(), names.len(), "no two became one");
    names.len()
}

/// How many objects there are to be reached by strong references.
fn reached(storage: &dyn Storage, root: Oid) -> u64 {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![root]);
    while let Some(oid) = waiting.pop() {
        if let Some(node) = node(storage, oid).filter(|_| seen.insert(oid)) {
            waiting.extend(node.strong);
        }
    }
    seen.len() as u64
}

/// Imports, and commits.
fn imported(to: &dyn Storage, mut file: &[u8], options: ExportOptions) -> Result<ImportReport, ExportError> {
    let draft = to.begin(TransactionMeta::new())?;
    let (draft, report) = import(draft, &mut || to.new_oid(), None, &mut file, options)?;
    to.commit(draft)?;
    Ok(report)
}

#[test]
fn what_is_imported_has_the_same_shape() {
    let (mut exports, mut objects, mut dangling) = (0, 0, 0);
    for case in 0..400 {
        let past = play(case, Can { pack: false, untold: false, blobs: false, ..Can::EVERYTHING }, 40);
        for &oid in &past.world.known.oids {
            let mut file = Vec::new();
            let Ok(exported) = export(&past.rules, oid, &mut file, GO_ON) else {
                assert!(past.rules.load(oid, &Version::TRUNK).is_err(), "case {case}: only what is not there");
                continue;
            };
            // Into a database that has these oids already, for other objects.
            let to = MemoryStorage::new("to");
            let mut change = to.begin(TransactionMeta::new()).unwrap();
            for oid in 0..20 {
                change.store(Oid(oid), Tid::ZERO, Node::default().encode()).unwrap();
            }
            to.vote(change).unwrap().finish().unwrap();
            let report = imported(&to, &file, GO_ON).unwrap();
            assert_eq!((exported.objects, exported.bytes), (report.objects, report.bytes));
            assert_eq!(exported.dangling.len(), report.dangling.len());
            assert_eq!(exported.objects, reached(&past.rules, oid), "case {case}: what is weak stays behind");
            assert!(report.root.0 >= 20);
            objects += isomorphic(&past.rules, &to, (oid, report.root));
            exports += 1;
            // Without being told to go on, a dangling reference ends it.
            let refused = export(&past.rules, oid, &mut Vec::new(), ExportOptions::default());
            match refused {
                Err(ExportError::Dangling { references }) => {
                    assert_eq!(references, exported.dangling);
                    let strict = imported(&to, &file, ExportOptions::default());
                    let Err(ExportError::Dangling { references }) = strict else { panic!("{strict:?}") };
                    let ends = |pairs: &[(Oid, Oid)]| pairs.iter().map(|pair| pair.1).collect::<BTreeSet<_>>();
                    assert_eq!(ends(&references), ends(&exported.dangling));
                    dangling += 1;
                }
                other => assert_eq!(other.unwrap(), exported),
            }
        }
    }
    println!("{exports} exports, {objects} objects, {dangling} with dangling references");
    assert!(exports > 500 && dangling > 50);
}

fn sample() -> (impl Storage, Vec<u8>) {
    let storage = empty();
    let mut change = storage.begin(TransactionMeta::new()).unwrap();
    for (oid, strong) in [(0, vec![Oid(1), Oid(2)]), (1, vec![Oid(0)]), (2, vec![])] {
        let node = Node { strong, ..Node::default() };
        change.store(Oid(oid), Tid::ZERO, node.encode()).unwrap();
    }
    storage.vote(change).unwrap().finish().unwrap();
    let mut file = Vec::new();
    export(&storage, Oid::ROOT, &mut file, ExportOptions::default()).unwrap();
    (storage, file)
}

#[test]
fn an_export_that_is_cut_off_anywhere_is_refused_and_nothing_imported() {
    let (_, file) = sample();
    let to = empty();
    for end in 0..file.len() {
        let error = imported(&to, &file[..end], ExportOptions::default()).unwrap_err();
        match error {
            ExportError::NotAnExport => assert!(end < 4),
            ExportError::CutOff { position, .. } => assert_eq!(position, end as u64),
            other => panic!("cut at {end}: {other}"),
        }
        assert_eq!(to.last_transaction(), Tid::ZERO);
    }
    imported(&to, &file, ExportOptions::default()).unwrap();
}

#[test]
fn what_is_no_export_is_refused() {
    let refused = |file: &[u8]| {
        let error = imported(&empty(), file, ExportOptions::default()).unwrap_err();
        error.to_string()
    };
    assert!(refused(b"PK\x03\x04").contains("no export"));
    assert!(refused(&[&b"ZEXP"[..], &[0xff; 16]].concat()).contains("not one object"));
    // An impossible length.
    assert!(refused(b"ZEXP\0\0\0\0\0\0\0\x01\x7f\xff\xff\xff\xff\xff\xff\xffabc").contains("cut off at byte 23"));
    let (_, file) = sample();
    let end = file.len() - 16;
    let twice = [&file[..end], &file[4..end], &[0xff; 16]].concat();
    assert!(refused(&twice).contains("there before"));
    let blob = [&file[..end], b"\0BLOBSTART\0\0\0\0\0\0\0\x03abc", &[0xff; 16]].concat();
    assert!(refused(&blob).contains("blob"));
    let broken = b"ZEXP\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03abc";
    assert!(refused(broken).starts_with("the record of object 0000000000000001"));
    let bad = b"ZEXP\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05N.NQ.";
    assert!(refused(bad).contains("None in place of an oid"));
}

#[test]
fn an_export_of_what_is_not_there_is_a_key_error() {
    let (storage, _) = sample();
    let error = export(&storage, Oid(9), &mut Vec::new(), GO_ON).unwrap_err();
    assert!(matches!(error, ExportError::Storage(vellum_storage::Error::KeyError { oid: Oid(9), .. })));
}
