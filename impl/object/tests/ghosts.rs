//! The price of a ghost, by an allocator that counts.

use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;

use peak_alloc::PeakAlloc;
use vellum_object::{Database, Generic, Persistent, PersistentList, PersistentMapping, Ref, Value, WeakRef};
use vellum_storage::{MemoryStorage, Oid};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const GHOSTS: u64 = 1_000_000;

/// The allocator counts for all threads. So one test measures at a time, on a thread of its own: what the thread keeps,
/// such as its pool of connections, goes before the next test begins.
fn alone(measure: fn()) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    thread::spawn(measure).join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Everything that the heap takes for 1,000,000 ghosts, the table of oids included. The handles themselves are the
/// program's: they are in a list that has its room before.
#[test]
fn a_ghost_takes_at_most_16_bytes() {
    alone(measure_ghosts);
}

fn measure_ghosts() {
    for (name, stride) in [("one after the other", 1), ("scattered", 0x9e37_79b9_7f4a_7c15)] {
        // A database of its own: a connection of the pool would have the memory of the first.
        let database = Database::open(MemoryStorage::new("memory")).unwrap();
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

/// A mail as the benchmark has it: headers, and a text of 1,000 bytes.
#[derive(Persistent)]
#[persistent(class = "mail.Message")]
struct Message {
    subject: String,
    sender: String,
    to: String,
    date: String,
    text: String,
}

/// Everything that the heap takes for a loaded message, beside its ghost.
#[test]
fn a_loaded_message_takes_at_most_one_and_a_half_of_its_record() {
    alone(measure_messages);
}

fn measure_messages() {
    const MESSAGES: usize = 10_000;
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    for n in 0..MESSAGES {
        let message = connection.make(Message {
            subject: format!("message {n} about ghosts"),
            sender: "ann@example.com".to_owned(),
            to: "bob@example.com".to_owned(),
            date: "Sun, 29 Nov 2026 18:00:00 +0000".to_owned(),
            text: "x".repeat(1000),
        });
        connection.add(&message).unwrap();
    }
    connection.commit().unwrap();
    let reader = database.connect().unwrap();
    let handles: Vec<Ref<Message>> = (1..=MESSAGES as u64).map(|oid| reader.get(Oid(oid))).collect();
    let record: usize = (1..=MESSAGES as u64)
        .map(|oid| database.storage().load(Oid(oid), &vellum_storage::Version::TRUNK).unwrap().data.len())
        .sum();
    let before = MEMORY.current_usage();
    assert!(handles.iter().all(|message| message.view().unwrap().text.len() == 1000));
    let taken = MEMORY.current_usage() - before;
    println!("{} bytes for a record of {}", taken / MESSAGES, record / MESSAGES);
    assert_eq!(reader.loaded().1, MESSAGES as u64);
    assert!(taken * 2 <= record * 3, "{} bytes for a record of {}", taken / MESSAGES, record / MESSAGES);
    // The budget counts what the allocator does, within a tenth.
    let counted = reader.loaded().0 as f64;
    assert!((counted / taken as f64 - 1.0).abs() < 0.1, "{counted} counted, {taken} taken");
}

#[test]
fn handles_are_small() {
    assert_eq!(size_of::<Ref<Generic>>(), 8);
    assert_eq!(size_of::<WeakRef<Generic>>(), 8);
    assert_eq!(size_of::<Option<Box<vellum_object::Kept>>>(), 8);
    assert_eq!(PersistentList::CLASS, ("persistent.list", "PersistentList"));
    assert_eq!((PersistentMapping::CLASS.1, Value::from(1).kind()), ("PersistentMapping", "int"));
}

/// A thread that serves for months opens databases and connections without number.
#[test]
fn databases_and_connections_that_end_leave_nothing() {
    alone(|| {
        let open = || Database::open(MemoryStorage::new("memory")).unwrap();
        let settles = |what: &str, work: &dyn Fn()| {
            (0..100).for_each(|_| work());
            let before = MEMORY.current_usage();
            (0..1000).for_each(|_| work());
            let grown = MEMORY.current_usage().saturating_sub(before);
            // 8 bytes each would be too much.
            assert!(grown < 8_000, "{what}: {grown} bytes stay of 1000");
        };
        settles("a database", &|| drop(open().connect().unwrap().root::<PersistentMapping>().view().unwrap()));
        let database = open();
        let at = database.storage().last_transaction();
        settles("a connection of the past", &|| drop(database.connect_at(at).unwrap()));
        settles("connections beside each other", &|| {
            drop([database.connect().unwrap(), database.connect().unwrap()]);
        });
        settles("a database that ends in another thread", &|| {
            let database = open();
            drop(database.connect().unwrap());
            thread::spawn(move || drop(database)).join().unwrap();
        });
    });
}
