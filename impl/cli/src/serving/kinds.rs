//! The description of each kind of storage for clients, as in ZEO's server. Clients look at the interfaces to find the
//! supported calls.

use vellum_server::Description;
use vellum_storage::Capabilities;

use crate::python::repr;

/// Modules and names of Python's interfaces, in the order in which Python looks them up.
type Interfaces = &'static [(&'static str, &'static str)];

const FILE: Interfaces = &[
    ("ZODB.interfaces", "IStorageRestoreable"),
    ("ZODB.interfaces", "IStorageIteration"),
    ("ZODB.interfaces", "IStorageUndoable"),
    ("ZODB.interfaces", "IStorageCurrentRecordIteration"),
    ("ZODB.interfaces", "IExternalGC"),
    ("ZODB.interfaces", "IStorage"),
    INTERFACE,
];

/// The interfaces of a file with a blob folder that come before [`FILE`].
const BLOBS: Interfaces = &[("ZODB.interfaces", "IBlobStorageRestoreable"), ("ZODB.interfaces", "IBlobStorage")];

/// In memory, and of changes over a base.
const PLAIN: Interfaces = &[("ZODB.interfaces", "IStorage"), ("ZODB.interfaces", "IStorageIteration"), INTERFACE];

const UNDOABLE: (&str, &str) = ("ZODB.interfaces", "IStorageUndoable");
const INTERFACE: (&str, &str) = ("zope.interface", "Interface");

fn owned(interfaces: &[(&str, &str)]) -> Vec<(String, String)> {
    interfaces.iter().map(|(module, name)| ((*module).to_owned(), (*name).to_owned())).collect()
}

/// A file, with a blob folder beside it or without. It undoes unless it is history-free.
pub fn file(location: String, can: Capabilities, is_read_only: bool) -> Description {
    let Capabilities { undo: undoes, blobs: keeps_blobs, .. } = can;
    let blobs: Interfaces = if keeps_blobs { BLOBS } else { &[] };
    let mut interfaces = [blobs, FILE].concat();
    interfaces.retain(|interface| undoes || *interface != UNDOABLE);
    let interfaces = owned(&interfaces);
    Description { location, undoes, iterates_records: true, keeps_blobs, is_read_only, interfaces }
}

/// A storage in memory.
pub fn mapping(title: String) -> Description {
    let interfaces = owned(PLAIN);
    let (undoes, iterates_records, keeps_blobs, is_read_only) = (false, false, false, false);
    Description { location: title, undoes, iterates_records, keeps_blobs, is_read_only, interfaces }
}

/// Changes over a base. It undoes if the changes do. It has blobs if one of them has, or if the changes are made for it
/// alone; those of the base can be read even if the changes keep none.
pub fn demo(title: Option<String>, base: &Description, changes: &Description, is_temporary: bool) -> Description {
    let names = [base, changes].map(|of| repr(&of.location));
    let location = title.unwrap_or_else(|| format!("DemoStorage({}, {})", names[0], names[1]));
    let undoable: Interfaces = if changes.undoes { &[UNDOABLE] } else { &[] };
    let keeps_blobs = base.keeps_blobs || changes.keeps_blobs || is_temporary;
    let blobs: Interfaces = if keeps_blobs { &BLOBS[1..] } else { &[] };
    Description {
        location,
        undoes: changes.undoes,
        iterates_records: false,
        keeps_blobs,
        is_read_only: changes.is_read_only,
        interfaces: owned(&[blobs, undoable, PLAIN].concat()),
    }
}

/// Compressed records, in whatever storage. It is called as that storage is, and iterates over records whether that one
/// does or not.
pub fn compressed(base: Description) -> Description {
    let mut interfaces = base.interfaces;
    // Python looks at what the layer's class has after what the storage below has; and at the root of all last.
    let end = interfaces.len().saturating_sub(1);
    if !interfaces.iter().any(|(_, name)| name == "IStorageWrapper") {
        interfaces.insert(end, ("ZODB.interfaces".to_owned(), "IStorageWrapper".to_owned()));
    }
    Description { interfaces, iterates_records: true, ..base }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNDOES: Capabilities =
        Capabilities { undo: true, versions: true, restore: true, pack: true, bulk: true, blobs: false };

    /// `get_info` of ZEO 6.2 says the same.
    #[test]
    fn demos_are_called_after_what_they_are_made_of() {
        let plain = || mapping("MappingStorage".to_owned());
        let demo = |base: &Description, changes: &Description| super::demo(None, base, changes, false);
        assert_eq!(demo(&plain(), &plain()).location, "DemoStorage('MappingStorage', 'MappingStorage')");
        let two = demo(&demo(&plain(), &plain()), &mapping("Mapping Storage".to_owned()));
        let wanted = r#"DemoStorage("DemoStorage('MappingStorage', 'MappingStorage')", 'Mapping Storage')"#;
        assert_eq!(two.location, wanted);
        let over_file = demo(&plain(), &file("C.fs".to_owned(), UNDOES, false));
        let names: Vec<&str> = over_file.interfaces.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["IStorageUndoable", "IStorage", "IStorageIteration", "Interface"]);
        assert!(over_file.undoes && !over_file.iterates_records);
    }

    /// The changes of a demo may have no folder, and the base one: its pictures are there.
    #[test]
    fn a_demo_has_the_blobs_of_its_base() {
        let can = |blobs| Capabilities { blobs, ..UNDOES };
        let demo = |base, changes: Description| {
            let demo = super::demo(None, &file("B.fs".to_owned(), can(base), true), &changes, false);
            let names = demo.interfaces.iter().any(|(_, name)| name == "IBlobStorage");
            assert_eq!(names, demo.keeps_blobs);
            names
        };
        assert!(demo(true, mapping("m".to_owned())));
        assert!(demo(true, file("C.fs".to_owned(), can(false), false)));
        assert!(!demo(false, mapping("m".to_owned())));
    }

    /// The same of zc.zlibstorage, over each kind.
    #[test]
    fn compressed_storages_are_wrappers() {
        let names = |of: &Description| of.interfaces.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        let over_memory = compressed(mapping("m".to_owned()));
        assert_eq!(names(&over_memory), ["IStorage", "IStorageIteration", "IStorageWrapper", "Interface"]);
        assert!(over_memory.iterates_records && !over_memory.undoes && over_memory.location == "m");
        let over_file = compressed(file("C.fs".to_owned(), UNDOES, false));
        assert_eq!(names(&over_file)[4..], ["IExternalGC", "IStorage", "IStorageWrapper", "Interface"]);
        assert_eq!(names(&compressed(over_file.clone())), names(&over_file), "twice is as once");
        let over_demo = compressed(demo(None, &mapping("a".to_owned()), &mapping("b".to_owned()), false));
        assert_eq!(names(&over_demo), names(&over_memory));
    }
}
