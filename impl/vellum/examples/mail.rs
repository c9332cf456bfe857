//! The mail database that ZODB wrote: its messages as structs, and every object as values.
//!
//!     cargo run -p vellum --features object --example mail -- fixtures/golden/mail.fs

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use vellum::object::{Connection, Database, Generic, Persistent, Ref, Result, Value};
use vellum::{MemoryStorage, Oid, Options, Overlay};

/// A message. The date is a `datetime` of Python, which stays a value.
#[derive(Persistent)]
#[persistent(class = "mail.Message")]
struct Message {
    message_id: String,
    sender: String,
    date: Value,
    subject: String,
    body: String,
    flags: Value,
    parent: Option<Ref<Message>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "fixtures/golden/mail.fs".to_owned());
    print!("{}", run(Path::new(&path))?);
    Ok(())
}

/// Every object that can be reached from the root, by class.
fn walk(connection: &Connection) -> Result<BTreeMap<String, Vec<Ref<Generic>>>> {
    let mut classes: BTreeMap<String, Vec<Ref<Generic>>> = BTreeMap::new();
    let (mut seen, mut next) = (HashSet::from([Oid::ROOT]), vec![connection.root::<Generic>()]);
    while let Some(object) = next.pop() {
        let view = object.view()?;
        view.trace(&mut |raw| {
            let to = raw.object();
            if to.oid().is_some_and(|oid| seen.insert(oid)) {
                next.push(to);
            }
        });
        let class = Persistent::class(&*view).to_string();
        classes.entry(class).or_default().push(object);
    }
    Ok(classes)
}

/// The subjects from a message to the first one of its thread.
fn thread(message: &Ref<Message>) -> Result<Vec<String>> {
    let (mut subjects, mut next) = (Vec::new(), Some(message.clone()));
    while let Some(message) = next {
        let message = message.view()?;
        subjects.push(message.subject.clone());
        next = message.parent.clone();
    }
    Ok(subjects)
}

/// Walks over the database, shows the longest thread, and marks its messages as seen in an overlay: the file does not
/// change.
pub fn run(path: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let storage = Options::new().read_only().open(path)?;
    let database = Database::open(Overlay::new(Arc::new(storage), Arc::new(MemoryStorage::new("changes")))?)?;
    let connection = database.connect()?;
    let classes = walk(&connection)?;
    let mut shown = String::new();
    for (class, objects) in &classes {
        shown += &format!("{:>4} {class}\n", objects.len());
    }
    let messages: Vec<Ref<Message>> =
        classes.get("mail.Message").into_iter().flatten().map(|object| object.cast()).collect();
    let (mut longest, mut bytes) = (Vec::new(), 0);
    for message in &messages {
        let subjects = thread(message)?;
        if subjects.len() > longest.len() {
            longest = subjects;
        }
        bytes += message.view()?.body.len();
    }
    shown += &format!("{bytes} bytes of text; the longest thread has {} messages:\n", longest.len());
    longest.iter().for_each(|subject| shown += &format!("  {subject}\n"));

    let seen = |flags: &Value| matches!(flags, Value::Dict(flags) if flags.contains(&("seen".into(), true.into())));
    let unseen: Vec<&Ref<Message>> = messages
        .iter()
        .filter_map(|message| message.view().ok().filter(|view| !seen(&view.flags)).map(|_| message))
        .collect();
    for message in &unseen {
        message.change(|message| message.flags = Value::Dict(vec![("seen".into(), true.into())]))?;
    }
    connection.commit()?;
    shown += &format!("{} messages were not seen, and are now\n", unseen.len());
    Ok(shown)
}
