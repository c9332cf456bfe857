//! Structs as the objects of a class.

use vellum_object::{Bunch, Database, Error, Generic, Persistent, PersistentMapping, Ref, Value, WeakRef};
use vellum_storage::{MemoryStorage, Oid, Tid, TransactionMeta};

#[derive(Persistent, Debug)]
#[persistent(class = "mail.Message")]
struct Message {
    subject: String,
    #[persistent(name = "from")]
    sender: Option<String>,
    size: u32,
    answers: Vec<Ref<Message>>,
    about: Option<WeakRef<Message>>,
}

impl Message {
    fn new(subject: &str) -> Message {
        Message { subject: subject.to_owned(), sender: None, size: 0, answers: Vec::new(), about: None }
    }
}

#[derive(Persistent, Bunch)]
#[persistent(class = "shop.Item", defaults)]
struct Item {
    #[bunch(default = String::from("nothing"))]
    name: String,
    #[bunch(default = 3)]
    stock: i64,
    price: f64,
    next: Option<Ref<Item>>,
}

fn with_state(class: &str, state: &[u8]) -> Database {
    let storage = MemoryStorage::new("memory");
    let mut draft = storage.begin(TransactionMeta::new()).unwrap();
    let record = [b"\x80\x03c", class.as_bytes(), b"\n.\x80\x03", state, b"."].concat();
    draft.store(Oid(7), Tid::ZERO, record.into()).unwrap();
    storage.commit(draft).unwrap();
    Database::open(storage).unwrap()
}

#[test]
fn fields_are_the_attributes_of_the_class() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let one = connection.make(Message::new("one"));
    let two = connection.make(Message { sender: Some("ann".into()), size: 70_000, ..Message::new("two") });
    one.change(|one| one.answers.push(two.clone())).unwrap();
    two.change(|two| two.about = WeakRef::new(&connection, &one).ok()).unwrap();
    connection.root::<PersistentMapping>().change(|root| root.insert("mail", &one)).unwrap();
    connection.commit().unwrap();

    let reader = database.connect().unwrap();
    let one = reader.get::<Message>(one.oid().unwrap());
    let two = one.view().unwrap().answers[0].clone();
    let view = two.view().unwrap();
    assert_eq!((view.subject.as_str(), view.sender.as_deref(), view.size), ("two", Some("ann"), 70_000));
    assert_eq!(view.about.as_ref().unwrap().get(&reader).unwrap(), Some(one));
    drop(view);
    let values = two.cast::<Generic>();
    assert_eq!(values.view().unwrap().attribute("from"), Some(&Value::from("ann")));
    assert_eq!(Generic::class(&values.view().unwrap()).to_string(), "mail.Message");
}

/// Attributes that the struct does not name are written back.
#[test]
fn other_attributes_are_kept() {
    let state =
        b"}(X\x07\0\0\0subjectX\x01\0\0\0sX\x04\0\0\0sizeK\x01X\x07\0\0\0answers]X\x05\0\0\0colorX\x03\0\0\0redu";
    let database = with_state("mail\nMessage", state);
    let connection = database.connect().unwrap();
    let message = connection.get::<Message>(Oid(7));
    message.change(|message| message.size = 2).unwrap();
    connection.commit().unwrap();
    let reader = database.connect().unwrap();
    let values = reader.get::<Generic>(Oid(7)).view().unwrap();
    assert_eq!(values.attribute("color"), Some(&Value::from("red")));
    assert_eq!(values.attribute("size"), Some(&Value::from(2)));
}

#[test]
fn an_attribute_of_another_type_is_an_error_with_class_object_and_field() {
    let error = |state: &[u8]| {
        let database = with_state("mail\nMessage", state);
        let connection = database.connect().unwrap();
        connection.get::<Message>(Oid(7)).view().unwrap_err().to_string()
    };
    let head = "the record of object 0000000000000007 of the class mail.Message cannot be read: its ";
    assert_eq!(
        error(b"}(X\x07\0\0\0subjectK\x01u"),
        format!("{head}attribute `subject` is of the kind int, and not str")
    );
    assert_eq!(error(b"}"), format!("{head}attribute `subject` is of the kind nothing, and not str"));
    assert_eq!(error(b"K\x05"), format!("{head}state is of the kind int, and not dict"));
    assert_eq!(
        error(b"}(X\x07\0\0\0subjectX\0\0\0\0X\x04\0\0\0sizeJ\xff\xff\xff\xffu"),
        format!("{head}attribute `size` is of the kind int, and not int that fits u32")
    );
    let database = with_state("shop\nItem", b"}");
    let connection = database.connect().unwrap();
    let error = connection.get::<Message>(Oid(7)).view().unwrap_err();
    assert!(matches!(error, Error::WrongClass { .. }), "{error}");
}

/// A reference whose class is unknown here keeps its class when its holder is written.
#[test]
fn references_keep_their_class() {
    let to = |class: &[u8]| [b"C\x08\0\0\0\0\0\0\0\x09c", class, b"\n\x86Q"].concat();
    let state = [
        b"}(X\x07\0\0\0subjectX\0\0\0\0X\x04\0\0\0sizeK\x01X\x07\0\0\0answers]",
        &to(b"gone\nClass")[..],
        b"aX\x05\0\0\0otherC\x08\0\0\0\0\0\0\0\x0aQu",
    ]
    .concat();
    let database = with_state("mail\nMessage", &state);
    let connection = database.connect().unwrap();
    connection.get::<Message>(Oid(7)).change(|message| message.size = 9).unwrap();
    connection.commit().unwrap();
    let record = database.storage().load(Oid(7), &vellum_storage::Version::TRUNK).unwrap().data;
    let found = vellum_pickle::references(&record).unwrap();
    let shown: Vec<String> = found.iter().map(|reference| format!("{reference:?}")).collect();
    assert_eq!(shown, ["Strong { oid: 9, class: Some(ClassRef(gone.Class)) }", "Strong { oid: 10, class: None }"]);
}

/// A bunch stores and shows the fields that differ from their defaults.
/// The names of fields that the derived code uses for itself.
#[derive(Persistent, Bunch, PartialEq)]
#[persistent(class = "odd.Names", defaults)]
struct Odd {
    name: String,
    named: i64,
    kept: Option<Ref<Odd>>,
    default: bool,
    reader: Vec<String>,
    rest: Value2,
    r#type: i64,
}

type Value2 = Option<f64>;

#[test]
fn fields_of_any_name() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let one = connection.make(Odd { name: "one".into(), r#type: 7, reader: vec!["a".into()], ..Odd::default() });
    one.change(|odd| odd.kept = Some(one.clone())).unwrap();
    connection.add(&one).unwrap();
    connection.commit().unwrap();
    connection.minimize();
    let view = one.view().unwrap();
    assert_eq!((view.name.as_str(), view.r#type, view.kept.as_ref(), view.reader.len()), ("one", 7, Some(&one), 1));
    assert_eq!(one.cast::<Generic>().raw(), one.raw());
}

/// An attribute that is written twice: the last one counts, as it does for Python.
#[test]
fn an_attribute_that_is_written_twice() {
    let state = b"}(X\x07\0\0\0subjectK\x01X\x04\0\0\0sizeK\x01X\x07\0\0\0answers]X\x07\0\0\0subjectX\x01\0\0\0sX\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u";
    let database = with_state("mail\nMessage", state);
    let connection = database.connect().unwrap();
    let message = connection.get::<Message>(Oid(7));
    assert_eq!(message.view().unwrap().subject, "s");
    message.change(|message| message.size = 2).unwrap();
    connection.commit().unwrap();
    let values = database.connect().unwrap().get::<Generic>(Oid(7)).view().unwrap().state().clone();
    let Value::Dict(pairs) = values else { panic!("{values:?}") };
    assert_eq!(pairs.iter().filter(|(key, _)| key.as_text() == Some("subject")).count(), 1);
}

#[test]
fn a_bunch_stores_and_shows_what_differs_from_its_defaults() {
    let database = Database::open(MemoryStorage::new("memory")).unwrap();
    let connection = database.connect().unwrap();
    let item = Item { price: 2.5, ..Item::default() };
    assert_eq!(format!("{item:?}"), "Item { price: 2.5 }");
    let item = connection.make(item);
    connection.add(&item).unwrap();
    connection.commit().unwrap();
    let values = item.cast::<Generic>();
    assert_eq!(values.view().unwrap().state(), &Value::Dict(vec![(Value::from("price"), Value::Float(2.5))]));
    connection.minimize();
    let view = item.view().unwrap();
    assert_eq!((view.name.as_str(), view.stock, view.price, &view.next), ("nothing", 3, 2.5, &None));
    drop(view);
    item.change(|item| item.stock = 4).unwrap();
    assert_eq!(format!("{:?}", *item.view().unwrap()), "Item { stock: 4, price: 2.5 }");
}
