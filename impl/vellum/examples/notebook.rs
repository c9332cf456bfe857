//! A notebook: pages that link to each other, savepoints, and the notebook as it was.
//!
//!     cargo run -p vellum --features object --example notebook -- Notes.fs

use std::path::Path;

use vellum::object::{Bunch, Connection, Database, Error, Persistent, PersistentMapping, Ref, Result, Value};
use vellum::{FileStorage, Tid};

/// A page. Python's class is `notebook.Page`, with the same attributes.
#[derive(Persistent, Bunch)]
#[persistent(class = "notebook.Page", defaults)]
struct Page {
    title: String,
    text: String,
    tags: Vec<String>,
    links: Vec<Ref<Page>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "Notes.fs".to_owned());
    print!("{}", run(Path::new(&path))?);
    Ok(())
}

/// The page of this title.
fn page(connection: &Connection, title: &str) -> Result<Option<Ref<Page>>> {
    let pages = connection.root::<PersistentMapping>().view()?;
    Ok(pages.get(title).and_then(Value::as_reference).map(|page| page.cast()))
}

/// Writes a page, or adds to the one that is there.
fn write(connection: &Connection, title: &str, text: &str, tags: &[&str]) -> Result<Ref<Page>> {
    if let Some(page) = page(connection, title)? {
        page.change(|page| page.text += text)?;
        return Ok(page);
    }
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let page = connection.make(Page { title: title.to_owned(), text: text.to_owned(), tags, ..Page::default() });
    connection.root::<PersistentMapping>().change(|pages| pages.insert(title, &page))?;
    Ok(page)
}

/// The titles with the pages that they link to.
fn contents(connection: &Connection) -> Result<String> {
    let mut shown = String::new();
    for (_, value) in connection.root::<PersistentMapping>().view()?.iter() {
        let Some(page) = value.as_reference() else { continue };
        let page = page.cast::<Page>().view()?;
        let links: Vec<String> =
            page.links.iter().map(|to| Ok(to.view()?.title.clone())).collect::<Result<Vec<_>>>()?;
        shown += &format!("  {} {:?}: {}", page.title, page.tags, page.text);
        shown += &if links.is_empty() { "\n".to_owned() } else { format!(" -> {}\n", links.join(", ")) };
    }
    Ok(shown)
}

/// Writes a few pages, takes a bad idea back, and looks at the past.
pub fn run(path: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let storage = if path.exists() { FileStorage::open(path)? } else { FileStorage::create(path)? };
    let database = Database::open(storage)?;
    let before: Tid = database.transact(|connection| {
        let ghosts = write(connection, "ghosts", "A ghost takes 16 bytes.", &["memory"])?;
        let cache = write(connection, "cache", "It makes ghosts.", &["memory"])?;
        cache.change(|cache| {
            if !cache.links.contains(&ghosts) {
                cache.links.push(ghosts);
            }
        })?;
        connection.commit()
    })?;

    let connection = database.connect()?;
    write(&connection, "ghosts", " It has no state.", &[])?;
    let savepoint = connection.savepoint()?;
    write(&connection, "wrong", "A bad idea.", &[])?;
    write(&connection, "ghosts", " It is white.", &[])?;
    connection.rollback(&savepoint)?;
    connection.commit()?;

    let mut shown = format!("now:\n{}", contents(&connection)?);
    shown += &format!("before the last transaction:\n{}", contents(&database.connect_at(before)?)?);
    // An object that is not there is an error that says so.
    match connection.get::<Page>(vellum::Oid(4711)).view() {
        Err(error @ Error::Missing { .. }) => {
            shown += &format!("{error}\n").replace(&connection.moment().to_string(), "now")
        }
        other => drop(other?),
    }
    Ok(shown)
}
