//! Objects write themselves as their values would be written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vellum_object::btree::{BTree, IF, LO, OO, QQ, TreeSet};
use vellum_object::{Connection, DEPTH_MAX, Database, Error, Field, Generic, Persistent, Ref, Trouble, Value};
use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta, Version};

#[derive(Persistent)]
#[persistent(class = "mail.Message")]
struct Message {
    subject: String,
    whole: i64,
    small: u8,
    ratio: f64,
    is_new: bool,
    body: Box<[u8]>,
    sender: Option<String>,
    parent: Option<Ref<Message>>,
    answers: Vec<Ref<Message>>,
    flags: Value,
}

fn message(whole: i64, flags: Value) -> Message {
    Message {
        subject: "k\u{e9}\u{1f40d}".into(),
        whole,
        small: 7,
        ratio: -0.5,
        is_new: whole < 0,
        body: vec![7; whole.unsigned_abs().min(300) as usize].into(),
        sender: None,
        parent: None,
        answers: Vec::new(),
        flags,
    }
}

fn data(database: &Database, oid: Oid) -> Vec<u8> {
    database.storage().load(oid, &Version::TRUNK).unwrap().data.to_vec()
}

/// Stores an object as its type writes it, and then as its values are written.
#[track_caller]
fn both_ways<T: Persistent>(database: &Database, oid: Oid) -> [Vec<u8>; 2] {
    let connection = database.connect().unwrap();
    let object: Ref<T> = connection.get(oid);
    object.change(|_| ()).unwrap();
    connection.commit().unwrap();
    let own = data(database, oid);
    object.cast::<Generic>().change(|_| ()).unwrap();
    connection.commit().unwrap();
    [own, data(database, oid)]
}

#[track_caller]
fn is_written_alike<T: Persistent>(database: &Database, oid: Oid) -> Vec<u8> {
    let [own, as_values] = both_ways::<T>(database, oid);
    assert!(own == as_values, "{}\n{}", own.escape_ascii(), as_values.escape_ascii());
    own
}

#[test]
fn a_struct_is_written_as_its_values_are() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let wholes = [0, 1, -1, 255, 256, 65_535, 65_536, -129, 1 << 31, -(1 << 31) - 1, 1 << 40, -(1 << 47), 0x7f << 32];
    for whole in wholes.into_iter().chain([i64::MIN, i64::MAX]) {
        let other = connection.make(message(1, Value::None));
        let pairs = vec![(Value::from("seen"), Value::from(true)), (Value::reference(&other), Value::from(1.5))];
        let flags = Value::Dict(vec![(Value::from("all"), Value::List(vec![Value::Dict(pairs)]))]);
        let made = connection.make(Message {
            sender: (whole % 2 == 0).then(|| "ann".into()),
            parent: (whole % 3 == 0).then(|| other.clone()),
            answers: vec![other; 2],
            ..message(whole, flags)
        });
        let oid = connection.add(&made).unwrap();
        connection.commit().unwrap();
        is_written_alike::<Message>(&database, oid);
        let read = database.connect().unwrap();
        assert_eq!(read.get::<Message>(oid).view().unwrap().whole, whole);
    }
}

#[test]
fn attributes_without_a_field_are_written_behind_the_others() {
    // More than one batch of them, beside a class with arguments.
    let named = |n: usize| [b"X\x04\0\0\0".as_slice(), format!("a{n:03x}").as_bytes(), b"K\x05"].concat();
    for (count, protocol) in [(0, 3), (1, 3), (990, 3), (991, 3), (998, 2), (2000, 3)] {
        let fields = b"X\x07\0\0\0subjectX\x01\0\0\0sX\x05\0\0\0wholeK\x01X\x05\0\0\0smallK\x01X\x05\0\0\0ratioG\0\0\0\0\0\0\0\0\
                       X\x06\0\0\0is_new\x88X\x04\0\0\0bodyC\x01xX\x07\0\0\0answers]X\x05\0\0\0flagsN";
        let rest: Vec<u8> = (0..count).flat_map(named).collect();
        let record = [b"\x80".as_slice(), &[protocol], b"cmail\nMessage\nq\x00.\x80", &[protocol], b"}("].concat();
        let record = [record.as_slice(), fields, &rest, b"u."].concat();
        let storage = MemoryStorage::new("memory");
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(Oid(7), Tid::ZERO, record.into()).unwrap();
        storage.commit(draft).unwrap();
        let database = Database::open(storage).unwrap();
        let written = is_written_alike::<Message>(&database, Oid(7));
        let kept = written.windows(5).filter(|part| part.starts_with(b"a") && part.ends_with(b"K")).count();
        assert_eq!((written[1], kept), (protocol, count));
    }
}

#[test]
fn nodes_and_leaves_are_written_as_their_values_are() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let (texts, dates) = (connection.make(BTree::<OO>::default()), connection.make(BTree::<LO>::default()));
    let (numbers, floats) = (connection.make(BTree::<QQ>::default()), connection.make(BTree::<IF>::default()));
    let set = connection.make(TreeSet::<OO>::default());
    for tree in [texts.raw(), dates.raw(), numbers.raw(), floats.raw(), set.raw()] {
        connection.add(&tree.object()).unwrap();
    }
    // Empty, one leaf inside, leaves, and levels of nodes.
    let mut done = 0;
    for count in [0, 1, 20, 200, 9_000] {
        for n in done..count {
            texts.set(format!("k{n}"), &dates).unwrap();
            dates.set(i64::from(n) * 1_000_000_007, &texts).unwrap();
            numbers.set(u64::MAX - n as u64, n as u64).unwrap();
            floats.set(n, n as f32 / 4.0).unwrap();
            set.add(n).unwrap();
        }
        done = count;
        connection.commit().unwrap();
        is_written_alike::<BTree<OO>>(&database, texts.oid().unwrap());
        is_written_alike::<BTree<LO>>(&database, dates.oid().unwrap());
        is_written_alike::<BTree<QQ>>(&database, numbers.oid().unwrap());
        is_written_alike::<BTree<IF>>(&database, floats.oid().unwrap());
        is_written_alike::<TreeSet<OO>>(&database, set.oid().unwrap());
        connection.begin().unwrap();
    }
    // The leaves, among them the last ones, which have no next leaf.
    let mut leaves = 0;
    for oid in (1..).map(Oid).take_while(|oid| database.storage().load(*oid, &Version::TRUNK).is_ok()) {
        let class = vellum_pickle::class_of(&data(&database, oid)).unwrap();
        match class.name.as_str() {
            "OOBucket" => drop(is_written_alike::<vellum_object::btree::Bucket<OO>>(&database, oid)),
            "OOSet" => drop(is_written_alike::<vellum_object::btree::Set<OO>>(&database, oid)),
            "QQBucket" => drop(is_written_alike::<vellum_object::btree::Bucket<QQ>>(&database, oid)),
            _ => continue,
        }
        leaves += 1;
    }
    assert!(leaves > 100);
}

#[test]
fn a_value_that_could_not_be_read_again_is_not_written() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let deep = |levels| (0..levels).fold(Value::None, |inside, _| Value::List(vec![inside]));
    let of_tree = |levels| {
        let tree = connection.make(BTree::<OO>::default());
        (0..100).for_each(|n| drop(tree.set(n, Value::None).unwrap()));
        tree.set(7, deep(levels)).unwrap();
        connection.add(&tree).unwrap();
        let done = connection.commit();
        let read = done.map(|_| {
            let other = database.connect().unwrap();
            other.get::<BTree<OO>>(tree.oid().unwrap()).check().map(drop)
        });
        connection.abort().unwrap();
        read
    };
    let of_struct = |levels| {
        let made = connection.make(message(1, deep(levels)));
        connection.add(&made).unwrap();
        let done = connection.commit();
        let read = done.map(|_| database.connect().unwrap().get::<Message>(made.oid().unwrap()).view().map(drop));
        connection.abort().unwrap();
        read
    };
    // The state and the value at the bottom are levels, too; a leaf has one more.
    for (levels, is_written) in [(DEPTH_MAX - 3, true), (DEPTH_MAX - 2, false)] {
        match of_tree(levels) {
            Ok(read) => assert!(is_written && read.is_ok(), "{levels}: {read:?}"),
            Err(error) => assert!(!is_written && matches!(error, Error::Unwritable { trouble: Trouble::TooDeep, .. })),
        }
    }
    for (levels, is_written) in [(DEPTH_MAX - 2, true), (DEPTH_MAX - 1, false)] {
        match of_struct(levels) {
            Ok(read) => assert!(is_written && read.is_ok(), "{levels}: {read:?}"),
            Err(error) => assert!(!is_written && matches!(error, Error::Unwritable { trouble: Trouble::TooDeep, .. })),
        }
    }
}

/// A number that cannot be written if it is odd.
struct Even(i64);

impl Field for Even {
    const EXPECTED: &'static str = "int";

    fn from_value(value: Value) -> Result<Even, Value> {
        i64::from_value(value).map(Even)
    }

    fn to_value(&self) -> Value {
        assert!(self.0 % 2 == 0, "{} is odd", self.0);
        self.0.to_value()
    }
}

#[derive(Persistent)]
#[persistent(class = "mail.Folder")]
struct Folder {
    first: Option<Ref<Message>>,
    count: Even,
}

/// Rule 7.4: an object that panics while it is written leaves no new object that seems to be stored.
#[test]
fn a_new_object_is_stored_after_a_commit_that_panicked() {
    let database = Database::open(MemoryStorage::new("it")).unwrap();
    let connection = database.connect().unwrap();
    let folder = connection.make(Folder { first: None, count: Even(0) });
    connection.add(&folder).unwrap();
    connection.commit().unwrap();
    let first = connection.make(message(1, Value::None));
    for odd in [1, 3] {
        folder.change(|folder| (folder.first, folder.count) = (Some(first.clone()), Even(odd))).unwrap();
        let ends: [fn(&Connection); 2] = [|it| drop(it.commit()), |it| drop(it.savepoint())];
        for end in ends {
            catch_unwind(AssertUnwindSafe(|| end(&connection))).unwrap_err();
            assert_eq!(first.oid(), None);
        }
    }
    folder.change(|folder| folder.count = Even(2)).unwrap();
    connection.commit().unwrap();
    let other = database.connect().unwrap();
    let found: Ref<Folder> = other.get(folder.oid().unwrap());
    assert_eq!(found.view().unwrap().first.as_ref().unwrap().view().unwrap().whole, 1);
}
