//! Plays programs over B-trees, for `cargo xtask peers --only shapes`. It compares the
//! trees with those that Python's BTrees package makes of the same programs.
//!
//!     btree_programs play FILE PROGRAMS TURN SKIPPED    plays our operations of one turn, a transaction a program
//!     btree_programs read FILE PROGRAMS SKIPPED         lists the contents of all trees, in both directions
//!
//! `FILE` is a database, and a program a line of JSON; `SKIPPED` is a JSON list of the numbers of programs that
//! are left out. The answers are lines of JSON. `needed` are the oids of the objects on which a commit depends.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Bound;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use vellum_file::FileStorage;
use vellum_object::btree::{BTree, Class, Content, Family, IF, II, LL, OO, QQ, TreeSet, UU, fs};
#[cfg(feature = "every-family")]
use vellum_object::btree::{IO, IU, LF, LO, LQ, OI, OL, OQ, OU, QF, QL, QO, UF, UI, UO};
use vellum_object::{Connection, Database, Ref, Value};
use vellum_storage::{Oid, TransactionMeta};

type Trouble = Box<dyn std::error::Error>;

thread_local! {
    static SIZES: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A family whose nodes have the sizes of the program.
struct Sized<F>(PhantomData<F>);

impl<F: Family> Family for Sized<F> {
    type Key = F::Key;
    type Value = F::Value;
    const BUCKET: Class = F::BUCKET;
    const SET: Class = F::SET;
    const BTREE: Class = F::BTREE;
    const TREE_SET: Class = F::TREE_SET;
    const LEAF_MAX: usize = F::LEAF_MAX;
    const INNER_MAX: usize = F::INNER_MAX;

    fn sizes() -> (usize, usize) {
        SIZES.get()
    }
}

#[derive(Deserialize)]
struct Program {
    family: String,
    kind: String,
    oid: u64,
    sizes: (usize, usize),
    turns: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    side: String,
    ops: Vec<Vec<Json>>,
}

fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, file, programs, rest @ ..] = arguments.as_slice() else { return Err("too few arguments".into()) };
    let programs = std::fs::read_to_string(programs)?;
    let programs: Vec<Program> = programs.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    match (mode.as_str(), rest) {
        ("play", [number, skipped]) => {
            turn(Path::new(file), &programs, number.parse()?, &serde_json::from_str(skipped)?)
        }
        ("read", [skipped]) => contents(Path::new(file), &programs, &serde_json::from_str(skipped)?),
        _ => Err("play FILE PROGRAMS TURN SKIPPED, or read FILE PROGRAMS SKIPPED".into()),
    }
}

/// Calls a generic function with the program's family.
macro_rules! with_family {
    ($program:expr, $function:ident, $($argument:expr),*) => {
        with_family!(@ $program, $function, ($($argument),*), OO II IF LL UU QQ fs,
            OI OU OL OQ IO LO UO QO IU LF LQ UI UF QL QF)
    };
    (@ $program:expr, $function:ident, $arguments:tt, $($family:ident)*, $($more:ident)*) => {
        match $program.family.as_str() {
            $(stringify!($family) => with_family!(% $function, $family, $arguments),)*
            $(
                #[cfg(feature = "every-family")]
                stringify!($more) => with_family!(% $function, $more, $arguments),
            )*
            _ => Err("an unknown family".into()),
        }
    };
    (% $function:ident, $family:ty, ($($argument:expr),*)) => { $function::<Sized<$family>>($($argument),*) };
}

/// Plays our operations of a turn.
fn turn(path: &Path, programs: &[Program], turn: usize, skipped: &BTreeSet<usize>) -> Result<(), Trouble> {
    let database = Database::open(FileStorage::open(path)?)?;
    let connection = database.connect()?;
    for (number, program) in programs.iter().enumerate().filter(|(number, _)| !skipped.contains(number)) {
        let Some(Turn { ops, .. }) = program.turns.get(turn).filter(|turn| turn.side == "ours") else { continue };
        SIZES.set(program.sizes);
        let at = |why: Trouble| format!("program {number}, {}{}, turn {turn}: {why}", program.family, program.kind);
        let results = with_family!(program, play, &connection, program, ops).map_err(at)?;
        let needed: Vec<u64> = connection.needed().into_iter().map(|oid| oid.0).collect();
        connection.commit_with(TransactionMeta::new().description(format!("{number} {turn}")))?;
        with_family!(program, check, &connection, program).map_err(at)?;
        println!("{}", json!({ "program": number, "results": results, "needed": needed }));
        connection.minimize();
    }
    Ok(())
}

/// The contents of all trees.
fn contents(path: &Path, programs: &[Program], skipped: &BTreeSet<usize>) -> Result<(), Trouble> {
    let database = Database::open(FileStorage::open_read_only(path)?)?;
    let connection = database.connect()?;
    for (number, program) in programs.iter().enumerate().filter(|(number, _)| !skipped.contains(number)) {
        let items = with_family!(program, items, &connection, program)?;
        println!("{}", json!({ "program": number, "items": items }));
        connection.minimize();
    }
    Ok(())
}

fn check<F: Family>(connection: &Connection, program: &Program) -> Result<(), Trouble> {
    match program.kind.as_str() {
        "BTree" => connection.get::<BTree<F>>(Oid(program.oid)).check()?,
        _ => connection.get::<TreeSet<F>>(Oid(program.oid)).check()?,
    };
    Ok(())
}

fn items<F: Family>(connection: &Connection, program: &Program) -> Result<Vec<Json>, Trouble> {
    let (forwards, mut backwards, count): (Vec<_>, Vec<_>, _) = match program.kind.as_str() {
        "BTree" => {
            let tree = connection.get::<BTree<F>>(Oid(program.oid));
            let item = |item: vellum_object::Result<(F::Key, F::Value)>| {
                item.map(|(key, value)| json!({ "t": [encoded(&key.write()), encoded(&value.write())] }))
            };
            (
                tree.items().map(item).collect::<Result<_, _>>()?,
                tree.items().rev().map(item).collect::<Result<_, _>>()?,
                tree.count()?,
            )
        }
        _ => {
            let tree = connection.get::<TreeSet<F>>(Oid(program.oid));
            let item = |key: vellum_object::Result<F::Key>| key.map(|key| encoded(&key.write()));
            (
                tree.keys().map(item).collect::<Result<_, _>>()?,
                tree.keys().rev().map(item).collect::<Result<_, _>>()?,
                tree.count()?,
            )
        }
    };
    backwards.reverse();
    match forwards == backwards && count == forwards.len() {
        true => Ok(forwards),
        false => Err(format!("{}: backwards there are other items", program.oid).into()),
    }
}

fn play<F: Family>(connection: &Connection, program: &Program, ops: &[Vec<Json>]) -> Result<Vec<Json>, Trouble> {
    let is_set = program.kind == "TreeSet";
    let set: Ref<TreeSet<F>> = connection.get(Oid(program.oid));
    let tree: Ref<BTree<F>> = connection.get(Oid(program.oid));
    let mut results = Vec::new();
    for op in ops {
        let key = |at: usize| F::Key::read(decoded(&op[at])?).map_err(Trouble::from);
        let value = || F::Value::read(decoded(&op[2])?).map_err(Trouble::from);
        results.push(match op[0].as_str().unwrap_or_default() {
            "set" => json!(tree.set(key(1)?, value()?)?.is_some()),
            "insert" => json!(tree.insert(key(1)?, value()?)?),
            "add" => json!(set.add(key(1)?)?),
            "remove" if is_set => json!(set.discard(&key(1)?)?),
            "remove" => json!(tree.remove(&key(1)?)?.is_some()),
            "clear" => {
                if is_set {
                    set.clear()?
                } else {
                    tree.clear()?
                }
                json!(true)
            }
            "get" if is_set => json!(set.contains(&key(1)?)?),
            "get" => tree.get(&key(1)?)?.map_or(Json::Null, |value| encoded(&value.write())),
            "pop" if is_set => match set.min_key(None)? {
                Some(key) => {
                    set.discard(&key)?;
                    encoded(&key.write())
                }
                None => Json::Null,
            },
            "pop" => tree.pop_first()?.map_or(Json::Null, |(key, _)| encoded(&key.write())),
            "range" => {
                let end = |at: usize| -> Result<Bound<F::Key>, Trouble> {
                    Ok(match (&op[at], op[at + 2] == json!(true)) {
                        (Json::Null, _) => Bound::Unbounded,
                        (_, true) => Bound::Excluded(key(at)?),
                        (_, false) => Bound::Included(key(at)?),
                    })
                };
                let bounds = (end(1)?, end(2)?);
                let keys: Vec<Json> = match is_set {
                    true => set
                        .range(bounds)
                        .map(|item| Ok(encoded(&item?.0.write())))
                        .collect::<Result<_, vellum_object::Error>>()?,
                    false => tree
                        .range(bounds)
                        .map(|item| Ok(encoded(&item?.0.write())))
                        .collect::<Result<_, vellum_object::Error>>()?,
                };
                json!(keys)
            }
            other => return Err(format!("unknown: {other}").into()),
        });
    }
    Ok(results)
}

fn decoded(json: &Json) -> Result<Value, Trouble> {
    Ok(match json {
        Json::Null => Value::None,
        Json::String(text) => Value::text(text.as_str()),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (_, Some(number)) => Value::BigInt(i128::from(number).to_le_bytes()[..9].into()),
            _ => return Err("a float".into()),
        },
        Json::Object(object) => match object.iter().next() {
            Some((kind, Json::String(bytes))) if kind == "b" => Value::Bytes(unhex(bytes).ok_or("no hex")?.into()),
            Some((kind, Json::Array(items))) if kind == "t" => {
                Value::Tuple(items.iter().map(decoded).collect::<Result<_, _>>()?)
            }
            Some((kind, Json::Number(number))) if kind == "f" => Value::Float(number.as_f64().ok_or("no float")?),
            _ => return Err("an unknown object".into()),
        },
        _ => return Err("an unknown value".into()),
    })
}

fn encoded(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!(number),
        Value::BigInt(bytes) => {
            let mut wide = [0; 8];
            wide.copy_from_slice(&bytes[..8]);
            json!(u64::from_le_bytes(wide))
        }
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!({ "b": hex(bytes) }),
        Value::Float(number) => json!({ "f": number }),
        Value::Tuple(items) => json!({ "t": items.iter().map(encoded).collect::<Vec<_>>() }),
        _ => Json::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}
