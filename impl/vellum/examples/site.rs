//! The folders of a Plone site, read without any class of Plone: folders are B-trees of references.
//!
//!     cargo run -p vellum --features object --example site -- Data.fs
//!
//! Without a file, it makes a small site of the same shapes in memory.

use std::sync::Arc;

use vellum::object::{Connection, Database, Error, Generic, PersistentMapping, Ref, Result, Value};
use vellum::raw::pickle::ClassName;
use vellum::{MemoryStorage, Options, Overlay};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shown = match std::env::args().nth(1) {
        Some(path) => {
            // An overlay, so that the file does not change.
            let (file, changes) = (Options::new().read_only().open(path)?, MemoryStorage::new("changes"));
            let database = Database::open(Overlay::new(Arc::new(file), Arc::new(changes))?)?;
            contents(&database.connect()?)?
        }
        None => run()?,
    };
    print!("{shown}");
    Ok(())
}

/// Makes a site, and shows its folders.
pub fn run() -> Result<String, Error> {
    let database = Database::open(MemoryStorage::new("site"))?;
    database.transact(|connection| {
        let mut folder = document(connection, "deep")?;
        for level in (0..4).rev() {
            let mut items = vec![(format!("folder-{level}"), folder)];
            for n in 0..3 {
                items.push((format!("page-{n}"), document(connection, &format!("page {n} of {level}"))?));
            }
            items.sort_by(|one, other| one.0.cmp(&other.0));
            folder = make_folder(connection, &format!("level {level}"), &items, level % 2 == 1)?;
        }
        connection.root::<PersistentMapping>().change(|root| root.insert("Application", &folder)).map(drop)
    })?;
    contents(&database.connect()?)
}

/// The folders, one item a line.
fn contents(connection: &Connection) -> Result<String> {
    let root = connection.root::<PersistentMapping>().view()?;
    let Some(site) = root.get("Application").and_then(Value::as_reference) else { return Ok("no site\n".to_owned()) };
    let mut shown = String::new();
    // Folders can be deep, so the open ones are in a list.
    let mut next = vec![(0, String::new(), site)];
    while let Some((depth, name, object)) = next.pop() {
        let view = object.view()?;
        let title = view.attribute("title").and_then(Value::as_text).unwrap_or_default().to_owned();
        let tree = view.attribute("_tree").and_then(Value::as_reference);
        drop(view);
        shown += &format!("{}{name}: {title}\n", "  ".repeat(depth));
        if let Some(tree) = tree {
            let mut items = items(&tree)?;
            items.reverse();
            next.extend(items.into_iter().map(|(name, object)| (depth + 1, name, object)));
        }
    }
    Ok(shown)
}

/// The items of an OOBTree from text to objects, in the order of the keys.
fn items(tree: &Ref<Generic>) -> Result<Vec<(String, Ref<Generic>)>> {
    let mut found = Vec::new();
    // A tree without a bucket of its own has its only bucket's state in its own; others lead to the first bucket.
    let mut next = match tree.view()?.state() {
        Value::Tuple(parts) => match parts.as_slice() {
            [Value::Tuple(only)] => {
                only.first().into_iter().for_each(|bucket| pairs(bucket, &mut found));
                None
            }
            [_, first] => first.as_reference(),
            _ => None,
        },
        _ => None,
    };
    while let Some(bucket) = next {
        let view = bucket.view()?;
        pairs(view.state(), &mut found);
        next = match view.state() {
            Value::Tuple(parts) => parts.get(1).and_then(Value::as_reference),
            _ => None,
        };
    }
    Ok(found)
}

/// Adds the items of a bucket's state: a tuple with a tuple of keys and values in turn.
fn pairs(bucket: &Value, found: &mut Vec<(String, Ref<Generic>)>) {
    let Value::Tuple(parts) = bucket else { return };
    let Some(Value::Tuple(flat)) = parts.first() else { return };
    for pair in flat.chunks_exact(2) {
        if let (Some(name), Some(object)) = (pair[0].as_text(), pair[1].as_reference()) {
            found.push((name.to_owned(), object));
        }
    }
}

fn class(module: &str, name: &str) -> ClassName {
    ClassName { module: module.to_owned(), name: name.to_owned() }
}

fn document(connection: &Connection, title: &str) -> Result<Ref<Generic>> {
    let state = Value::Dict(vec![("title".into(), title.into()), ("portal_type".into(), "Document".into())]);
    Ok(connection.make(Generic::new(class("plone.app.contenttypes.content", "Document"), state)))
}

/// A folder whose items are in one bucket or, if `is_large`, in buckets of two.
fn make_folder(
    connection: &Connection,
    title: &str,
    items: &[(String, Ref<Generic>)],
    is_large: bool,
) -> Result<Ref<Generic>> {
    let flat = |items: &[(String, Ref<Generic>)]| {
        Value::Tuple(items.iter().flat_map(|(name, item)| [name.as_str().into(), Value::reference(item)]).collect())
    };
    let state = if is_large {
        let (mut children, mut following) = (Vec::new(), None);
        for (n, part) in items.chunks(2).enumerate().collect::<Vec<_>>().into_iter().rev() {
            let state = Value::Tuple(std::iter::once(flat(part)).chain(following.take()).collect());
            let bucket = connection.make(Generic::new(class("BTrees.OOBTree", "OOBucket"), state));
            following = Some(Value::reference(&bucket));
            children.push(Value::reference(&bucket));
            children.extend((n > 0).then(|| part[0].0.as_str().into()));
        }
        children.reverse();
        Value::Tuple(std::iter::once(Value::Tuple(children)).chain(following).collect())
    } else {
        Value::Tuple(vec![Value::Tuple(vec![Value::Tuple(vec![flat(items)])])])
    };
    let tree = connection.make(Generic::new(class("BTrees.OOBTree", "OOBTree"), state));
    let state = Value::Dict(vec![("title".into(), title.into()), ("_tree".into(), Value::reference(&tree))]);
    Ok(connection.make(Generic::new(class("plone.app.contenttypes.content", "Folder"), state)))
}
