//! The price of a ghost, by an allocator that counts.

use peak_alloc::PeakAlloc;
use vellum_object::{Database, Generic, Persistent, PersistentList, PersistentMapping, Ref, Value, WeakRef};
use vellum_storage::{MemoryStorage, Oid};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const GHOSTS: u64 = 1_000_000;

/// Everything that the heap takes for 1,000,000 ghosts, the table of oids included. The handles themselves are the
/// program's: they are in a list that has its room before.
#[test]
fn a_ghost_takes_at_most_16_bytes() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    for (name, stride) in [("one after the other", 1), ("scattered", 0x9e37_79b9_7f4a_7c15)] {
        let connection = database.connect().unwrap();
        let mut handles: Vec<Ref<Generic>> = Vec::with_capacity(GHOSTS as usize);
        let before = MEMORY.current_usage();
        handles.extend((1..=GHOSTS).map(|n| connection.get(Oid(n.wrapping_mul(stride)))));
        let bytes = (MEMORY.current_usage() - before) as f64 / GHOSTS as f64;
        println!("{name}: {bytes:.2} bytes for each ghost");
        assert!(bytes <= 16.0, "{name}: a ghost takes {bytes:.2} bytes");
        assert_eq!(connection.known(), GHOSTS as usize, "{name}");
        // All are found again, and are the same.
        assert!(
            (1..=GHOSTS).all(|n| connection.get::<Generic>(Oid(n.wrapping_mul(stride))) == handles[n as usize - 1])
        );
        drop(handles);
        assert_eq!(connection.known(), 0, "{name}: ghosts that nothing refers to go");
    }
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<Ref<Generic>>(), 8);
    assert_eq!(size_of::<WeakRef<Generic>>(), 8);
    assert_eq!(size_of::<Option<Box<vellum_object::Kept>>>(), 8);
    assert_eq!(PersistentList::CLASS, ("persistent.list", "PersistentList"));
    assert_eq!((PersistentMapping::CLASS.1, Value::from(1).kind()), ("PersistentMapping", "int"));
}
