//! Our side: the steps on objects of ours, and what a connection shows.

use std::collections::BTreeMap;

use vellum_object::{
    Connection, Error, Generic, Persistent, PersistentList, PersistentMapping, Ref, Result, Savepoint, Value,
};
use vellum_pickle::ClassName;

use super::plain::{FIELDS, Plain, Thing, Things};
use super::steps::Step;

/// The struct for the notes of `xtask/peer/object_turns.py`.
#[derive(Persistent)]
#[persistent(class = "notes.Note")]
struct Note {
    title: String,
    size: i64,
    tags: Vec<Value>,
    about: Option<Ref<Generic>>,
}

/// The class of counters.
fn length() -> ClassName {
    ClassName { module: "BTrees.Length".to_owned(), name: "Length".to_owned() }
}

/// A history of one connection.
pub struct Player<'c> {
    connection: &'c Connection,
    history: String,
    savepoints: Vec<Savepoint>,
}

impl Player<'_> {
    pub fn new(connection: &Connection, history: String) -> Player<'_> {
        Player { connection, history, savepoints: Vec::new() }
    }

    fn registry(&self) -> Result<Ref<PersistentMapping>> {
        let root = self.connection.root::<PersistentMapping>();
        let there = root.view()?.get(self.history.as_str()).and_then(Value::as_reference);
        if let Some(registry) = there {
            return Ok(registry.cast());
        }
        let made = self.connection.make(PersistentMapping::default());
        root.change(|root| root.insert(self.history.as_str(), &made))?;
        Ok(made)
    }

    /// The object of a label.
    fn thing(&self, label: &str) -> Result<Ref<Generic>> {
        let registry = self.registry()?;
        let thing = registry.view()?.get(label).and_then(Value::as_reference);
        Ok(thing.unwrap_or_else(|| panic!("no {label} in {}", self.history)))
    }

    pub fn play(&mut self, step: &Step) -> Result<()> {
        let connection = self.connection;
        let value = |plain: &Plain| {
            plain.value(&|label| self.thing(label).map_or(Value::None, |thing| Value::reference(&thing)))
        };
        let list = |on: &str| self.thing(on).map(|thing| thing.cast::<PersistentList>());
        match step {
            Step::Make { on, kind } => {
                let made: Ref<Generic> = match *kind {
                    "mapping" => connection.make(PersistentMapping::default()).cast(),
                    "list" => connection.make(PersistentList::default()).cast(),
                    "counter" => connection.make(Generic::new(length(), Value::Int(0))),
                    _ => {
                        let note = Note { title: String::new(), size: 0, tags: Vec::new(), about: None };
                        connection.make(note).cast()
                    }
                };
                self.registry()?.change(|registry| registry.insert(on.as_str(), &made)).map(drop)
            }
            Step::Savepoint => {
                let savepoint = connection.savepoint()?;
                self.savepoints.push(savepoint);
                Ok(())
            }
            Step::Rollback => connection.rollback(self.savepoints.last().expect("a rollback follows a savepoint")),
            Step::Set { on, key, value: new } => {
                let (key, new) = (value(key), value(new));
                self.thing(on)?.cast::<PersistentMapping>().change(|mapping| mapping.insert(key, new)).map(drop)
            }
            Step::Del { on, key } => {
                let key = value(key);
                self.thing(on)?.cast::<PersistentMapping>().change(|mapping| mapping.remove(key)).map(drop)
            }
            Step::Clear { on } => match self.thing(on)?.cast::<PersistentList>().change(|list| list.clear()) {
                Err(Error::WrongClass { .. }) => {
                    let mapping = self.thing(on)?.cast::<PersistentMapping>();
                    mapping.change(|mapping| *mapping = PersistentMapping::default())
                }
                done => done,
            },
            Step::Insert { on, at, value: new } => {
                let new = value(new);
                list(on)?.change(|list| list.insert(*at, new))
            }
            Step::Put { on, at, value: new } => {
                let new = value(new);
                list(on)?.change(|list| list[*at] = new)
            }
            Step::Cut { on, at } => list(on)?.change(|list| list.remove(*at)).map(drop),
            Step::Reverse { on } => list(on)?.change(|list| list.reverse()),
            Step::Attribute { on, name, value: new } => self.set_attribute(on, name, value(new)),
            Step::Forget { on, name } => self.thing(on)?.change(|thing| {
                if let Value::Dict(pairs) = thing.state_mut() {
                    pairs.retain(|(key, _)| key.as_text() != Some(name));
                }
            }),
            Step::Count { on, by } => self.thing(on)?.change(|thing| match thing.state_mut() {
                Value::Int(count) => *count += by,
                other => panic!("a counter is {other:?}"),
            }),
        }
    }

    /// Fields are set in the struct, and other attributes in the values.
    fn set_attribute(&self, on: &str, name: &str, value: Value) -> Result<()> {
        let thing = self.thing(on)?;
        let note = thing.cast::<Note>();
        match (name, value) {
            ("title", Value::Text(text)) => note.change(|note| note.title = text.into_string()),
            ("size", Value::Int(size)) => note.change(|note| note.size = size),
            ("tags", Value::List(tags)) => note.change(|note| note.tags = tags),
            ("about", about) => note.change(|note| note.about = about.as_reference()),
            (name, value) => thing.change(|thing| thing.set_attribute(name, value)),
        }
    }

    /// The things, as this connection shows them.
    pub fn shown(&self) -> Result<Things> {
        let root = self.connection.root::<PersistentMapping>().view()?;
        let Some(registry) = root.get(self.history.as_str()).and_then(Value::as_reference) else {
            return Ok(Things::new());
        };
        let registry = registry.cast::<PersistentMapping>().view()?;
        let things: Vec<(String, Ref<Generic>)> = registry
            .iter()
            .filter_map(|(label, thing)| Some((label.as_text()?.to_owned(), thing.as_reference()?)))
            .collect();
        let label = |of: &Ref<Generic>| {
            let found = things.iter().find(|(_, thing)| thing == of);
            found.map_or_else(|| format!("no label: {of:?}"), |(label, _)| label.clone())
        };
        things.iter().map(|(name, thing)| Ok((name.clone(), show(thing, &label)?))).collect()
    }
}

fn show(thing: &Ref<Generic>, label: &dyn Fn(&Ref<Generic>) -> String) -> Result<Thing> {
    let class = Persistent::class(&*thing.view()?).name;
    let plain = |value: &Value| Plain::of(value, label);
    Ok(match class.as_str() {
        "PersistentMapping" => {
            let mapping = thing.cast::<PersistentMapping>().view()?;
            Thing::Mapping(mapping.iter().map(|(key, value)| (plain(key), plain(value))).collect())
        }
        "PersistentList" => Thing::List(thing.cast::<PersistentList>().view()?.iter().map(plain).collect()),
        "Length" => match thing.view()?.state() {
            Value::Int(count) => Thing::Counter(*count),
            other => panic!("a counter is {other:?}"),
        },
        _ => {
            let mut more = BTreeMap::new();
            if let Value::Dict(pairs) = thing.view()?.state() {
                let named = pairs.iter().filter_map(|(key, value)| Some((key.as_text()?.to_owned(), plain(value))));
                more.extend(named.filter(|(name, _)| !FIELDS.contains(&name.as_str())));
            }
            let note = thing.cast::<Note>().view()?;
            let about = note.about.as_ref().map_or(Plain::None, |about| Plain::Ref(label(about)));
            let tags = Plain::List(note.tags.iter().map(plain).collect());
            Thing::Note { fields: [Plain::Text(note.title.clone()), Plain::Int(note.size), tags, about], more }
        }
    })
}
