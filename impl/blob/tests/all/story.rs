//! Each operation on the disk in the life of some blobs, to be read: the order of its syncs.

use std::fmt::Write;

use crate::common::{bytes, open_on, place, ready};
use vellum_blob::Opening;
use vellum_disk::SimDisk;
use vellum_storage::{Oid, Tid};

#[test]
fn the_life_of_a_blob() {
    let (disk, mut story) = (SimDisk::new(0), String::new());
    disk.keep_trace(1000);
    let mut told = 0;
    let mut tell = |what: &str| {
        writeln!(story, "\n{what}").unwrap();
        let trace = disk.trace();
        trace[told..].iter().for_each(|line| writeln!(story, "    {}", line[5..].trim_end()).unwrap());
        told = trace.len();
    };
    let folder = open_on(&disk, Opening::default()).unwrap();
    tell("A new folder is opened.");
    let files = [b"one".as_slice(), b"two"].map(|bytes| ready(&folder, bytes).unwrap());
    tell("First phase: two blobs are filled and synced.");
    let places = [place(1, 7), place(0x1234, 7)];
    for (file, (oid, tid)) in files.into_iter().zip(places) {
        folder.place(file, oid, tid).unwrap();
    }
    tell("Second phase, when the tid is known: they get their names.");
    folder.sync(&places).unwrap();
    tell("Before the data file is marked: the names are made durable.");
    drop(ready(&folder, b"three").unwrap());
    tell("A transaction is aborted.");
    let file = folder.duplicate(Oid(1), Tid(7)).unwrap();
    tell("First phase of an undo: the same bytes get a second name.");
    folder.place(file, Oid(1), Tid(9)).unwrap();
    folder.sync(&[place(1, 9)]).unwrap();
    tell("Second phase of the undo. Folders that were made durable before are not synced again.");
    assert_eq!(bytes(&folder, place(1, 9)).unwrap(), b"one");
    folder.remove(&[place(0x1234, 7)]).unwrap();
    tell("A transaction that failed after that is taken back, and emptied folders go.");
    let mut list = folder.list_removal().unwrap();
    list.revision(Oid(1), Tid(7)).unwrap();
    let removal = list.finish().unwrap();
    tell("A pack lists what it removes.");
    removal.carry_out(true, |_, _| Ok(false)).unwrap();
    tell("The data file was exchanged: the pack keeps everything beside, and then removes.");
    insta::with_settings!({ snapshot_path => "../../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("blob-operations", story.trim_start());
    });
}
