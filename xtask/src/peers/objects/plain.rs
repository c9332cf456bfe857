//! Values and things of the histories, without a database: what both sides must show.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use vellum_object::{Ref, Value};

use crate::peers::dice::Dice;
use crate::peers::zodb::hex;

/// A value. References are labels.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian, in two's complement, as short as can be.
    Big(Vec<u8>),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Tuple(Vec<Plain>),
    List(Vec<Plain>),
    Dict(Vec<(Plain, Plain)>),
    Set(Vec<Plain>),
    Ref(String),
}

impl Plain {
    /// A value of chance, which may refer to these things.
    pub fn any(dice: &mut Dice, labels: &[String], depth: u64) -> Plain {
        let kinds = if depth == 0 { 9 } else { 13 };
        let some = |dice: &mut Dice| (0..dice.below(4)).map(|_| Plain::any(dice, labels, depth - 1)).collect();
        match dice.below(kinds) {
            0 => Plain::None,
            1 => Plain::Bool(dice.one_in(2)),
            2 => Plain::Big(
                dice.pick(&[&[0, 0, 0, 0, 0, 0, 0, 128, 0], &[255, 255, 255, 255, 255, 255, 255, 127, 255]]).to_vec(),
            ),
            3 => Plain::Float(dice.pick(&[0.5, -0.0, 1e300, 3.0, f64::INFINITY])),
            4 => Plain::Bytes((0..dice.below(5)).map(|_| dice.below(256) as u8).collect()),
            5 => Plain::Int(dice.pick(&[0, 1, -1, 255, 256, 65_536, i64::from(i32::MAX) + 1, i64::MIN, i64::MAX])),
            6 if !labels.is_empty() => Plain::Ref(labels[dice.below(labels.len() as u64) as usize].clone()),
            6..9 => Plain::Text(Plain::text(dice)),
            9 => Plain::Tuple(some(dice)),
            10 => Plain::List(some(dice)),
            11 => {
                let pairs = (0..dice.below(3)).map(|n| (Plain::Int(n as i64), Plain::any(dice, labels, depth - 1)));
                Plain::Dict(pairs.collect())
            }
            _ => Plain::Set((0..dice.below(4)).map(|n| Plain::Text(format!("s{n}"))).collect()),
        }
    }

    fn text(dice: &mut Dice) -> String {
        let some: String = (0..dice.below(6)).map(|_| dice.pick(&['a', 'b', 'é', '☃', '🐍', '\n'])).collect();
        if dice.one_in(9) { some.repeat(60) } else { some }
    }

    /// A key of a mapping. Some are equal in Python although their types differ.
    pub fn key(dice: &mut Dice) -> Plain {
        match dice.below(6) {
            0 => Plain::Bool(dice.one_in(2)),
            1 => Plain::Float(dice.pick(&[0.0, 1.0, 2.5])),
            2 => Plain::Int(dice.below(3) as i64),
            3 => Plain::Bytes(vec![97; dice.below(2) as usize]),
            4 => Plain::Tuple(vec![Plain::Int(dice.below(2) as i64), Plain::Text("a".to_owned())]),
            _ => Plain::Text(dice.pick(&["a", "b", "c", ""]).to_owned()),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Plain::Bool(is) => Some(f64::from(u8::from(*is))),
            Plain::Int(number) => Some(*number as f64),
            Plain::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether Python takes both for the same key.
    pub fn is_key(&self, other: &Plain) -> bool {
        match (self.number(), other.number()) {
            (Some(one), Some(two)) => one == two,
            (None, None) => self == other,
            _ => false,
        }
    }

    pub fn json(&self) -> Json {
        let all = |items: &[Plain]| items.iter().map(Plain::json).collect::<Vec<_>>();
        match self {
            Plain::None => json!(["none"]),
            Plain::Bool(is) => json!(["bool", is]),
            Plain::Int(number) => json!(["int", number.to_string()]),
            Plain::Big(bytes) => json!(["big", hex(bytes)]),
            Plain::Float(number) => json!(["float", hex(&number.to_be_bytes())]),
            Plain::Text(text) => json!(["text", text]),
            Plain::Bytes(bytes) => json!(["bytes", hex(bytes)]),
            Plain::Tuple(items) => json!(["tuple", all(items)]),
            Plain::List(items) => json!(["list", all(items)]),
            Plain::Dict(pairs) => json!(["dict", pairs_json(pairs)]),
            Plain::Set(items) => {
                let mut items = all(items);
                items.sort_by_key(Json::to_string);
                json!(["set", items])
            }
            Plain::Ref(label) => json!(["ref", label]),
        }
    }

    /// The value for an object of ours.
    pub fn value(&self, reference: &dyn Fn(&str) -> Value) -> Value {
        let all = |items: &[Plain]| items.iter().map(|item| item.value(reference)).collect();
        match self {
            Plain::None => Value::None,
            Plain::Bool(is) => Value::Bool(*is),
            Plain::Int(number) => Value::Int(*number),
            Plain::Big(bytes) => Value::BigInt(bytes.clone().into()),
            Plain::Float(number) => Value::Float(*number),
            Plain::Text(text) => Value::text(text.as_str()),
            Plain::Bytes(bytes) => Value::Bytes(bytes.clone().into()),
            Plain::Tuple(items) => Value::Tuple(all(items)),
            Plain::List(items) => Value::List(all(items)),
            Plain::Dict(pairs) => {
                Value::Dict(pairs.iter().map(|(key, item)| (key.value(reference), item.value(reference))).collect())
            }
            Plain::Set(items) => Value::Set(all(items)),
            Plain::Ref(label) => reference(label),
        }
    }

    /// The value of an object of ours. `label` says the label of an object.
    pub fn of(value: &Value, label: &dyn Fn(&Ref<vellum_object::Generic>) -> String) -> Plain {
        let all = |items: &[Value]| items.iter().map(|item| Plain::of(item, label)).collect();
        match value {
            Value::None => Plain::None,
            Value::Bool(is) => Plain::Bool(*is),
            Value::Int(number) => Plain::Int(*number),
            Value::BigInt(bytes) => Plain::Big(bytes.to_vec()),
            Value::Float(number) => Plain::Float(*number),
            Value::Text(text) => Plain::Text(text.to_string()),
            Value::Bytes(bytes) => Plain::Bytes(bytes.to_vec()),
            Value::Tuple(items) => Plain::Tuple(all(items)),
            Value::List(items) => Plain::List(all(items)),
            Value::Dict(pairs) => {
                Plain::Dict(pairs.iter().map(|(key, item)| (Plain::of(key, label), Plain::of(item, label))).collect())
            }
            Value::Set(items) => Plain::Set(all(items)),
            Value::Reference(reference) => Plain::Ref(label(&reference.object())),
            other => Plain::Text(format!("a value of the kind {}", other.kind())),
        }
    }
}

pub fn pairs_json(pairs: &[(Plain, Plain)]) -> Json {
    pairs.iter().map(|(key, item)| json!([key.json(), item.json()])).collect()
}

/// An object of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Thing {
    Mapping(Vec<(Plain, Plain)>),
    List(Vec<Plain>),
    /// The four fields of the struct, and the attributes that it does not name.
    Note {
        fields: [Plain; 4],
        more: BTreeMap<String, Plain>,
    },
    Counter(i64),
}

/// The fields of a note.
pub const FIELDS: [&str; 4] = ["title", "size", "tags", "about"];

impl Thing {
    pub fn new(kind: &str) -> Thing {
        match kind {
            "mapping" => Thing::Mapping(Vec::new()),
            "list" => Thing::List(Vec::new()),
            "counter" => Thing::Counter(0),
            _ => Thing::Note {
                fields: [Plain::Text(String::new()), Plain::Int(0), Plain::List(Vec::new()), Plain::None],
                more: BTreeMap::new(),
            },
        }
    }

    pub fn json(&self) -> Json {
        match self {
            Thing::Mapping(pairs) => json!({ "mapping": pairs_json(pairs) }),
            Thing::List(items) => json!({ "list": items.iter().map(Plain::json).collect::<Vec<_>>() }),
            Thing::Counter(count) => json!({ "counter": count }),
            Thing::Note { fields, more } => {
                let more: BTreeMap<&String, Json> = more.iter().map(|(name, item)| (name, item.json())).collect();
                let mut note = json!({ "more": more });
                for (name, item) in FIELDS.iter().zip(fields) {
                    note[name] = item.json();
                }
                json!({ "note": note })
            }
        }
    }
}

/// The things of a history, by their labels.
pub type Things = BTreeMap<String, Thing>;

pub fn things_json(things: &Things) -> Json {
    things.iter().map(|(label, thing)| (label.clone(), thing.json())).collect::<serde_json::Map<_, _>>().into()
}
