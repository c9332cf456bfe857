//! Programs over trees.

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::peers::dice::Dice;

/// The families, each with the sizes at which its leaves and nodes are split: one of each kind of keys, and of values.
const FAMILIES: [(&str, u64, u64); 7] = [
    ("OO", 30, 250),
    ("II", 120, 500),
    ("IF", 120, 500),
    ("LL", 120, 500),
    ("UU", 120, 500),
    ("QQ", 120, 500),
    ("fs", 500, 500),
];

/// The others, for the feature `every-family` of the player.
const MORE: [(&str, u64, u64); 15] = [
    ("OI", 60, 250),
    ("OU", 60, 250),
    ("OL", 60, 250),
    ("OQ", 60, 250),
    ("IO", 60, 500),
    ("LO", 60, 500),
    ("UO", 60, 500),
    ("QO", 60, 500),
    ("IU", 120, 500),
    ("LF", 120, 500),
    ("LQ", 120, 500),
    ("UI", 120, 500),
    ("UF", 120, 500),
    ("QL", 120, 500),
    ("QF", 120, 500),
];

const TURNS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Ours,
    Python,
}

#[derive(Debug, Serialize)]
pub struct Turn {
    pub side: Side,
    pub ops: Vec<Vec<Json>>,
}

#[derive(Debug, Serialize)]
pub struct Program {
    pub family: &'static str,
    pub kind: &'static str,
    /// The oid of the tree. Those of the setup are given out in turn.
    pub oid: u64,
    /// The sizes of leaves and of nodes.
    pub sizes: (u64, u64),
    pub turns: Vec<Turn>,
}

impl Program {
    pub fn name(&self, number: usize) -> String {
        format!("program {number}, {}{} {:?}", self.family, self.kind, self.sizes)
    }
}

/// Ten programs for each history: the same number for each family and kind.
pub fn all(histories: u64, seed: u64, every_family: bool) -> Vec<Program> {
    let more = if every_family { &MORE[..] } else { &[] };
    let families = FAMILIES.iter().chain(more).copied();
    let each = (histories * 10 / (2 * families.clone().count() as u64)).max(1) + 1;
    let mut programs = Vec::new();
    for (at, (family, leaf, inner)) in families.enumerate() {
        for (kind, name) in ["BTree", "TreeSet"].into_iter().enumerate() {
            for number in 0..each {
                let dice = Dice::new(seed ^ (at as u64) << 40 ^ (kind as u64) << 32 ^ number << 8);
                let sizes = if number % 8 == 7 { (leaf, inner) } else { (4, 4) };
                let oid = programs.len() as u64 + 1;
                programs.push(Author::new(dice, family, name, sizes).program(oid));
            }
        }
    }
    programs
}

struct Author {
    dice: Dice,
    family: &'static str,
    kind: &'static str,
    sizes: (u64, u64),
    /// Keys are made of numbers below this one.
    keys: u64,
    style: u64,
}

impl Author {
    fn new(mut dice: Dice, family: &'static str, kind: &'static str, sizes: (u64, u64)) -> Author {
        let small = [6, 20, 60, 200];
        let keys = if sizes.1 < 10 { dice.pick(&small) } else { sizes.0 * dice.pick(&[1, 2, 4]) };
        let style = dice.below(6);
        Author { dice, family, kind, sizes, keys, style }
    }

    fn program(mut self, oid: u64) -> Program {
        let turns = (0..TURNS)
            .map(|turn| {
                let side = match self.dice.below(8) {
                    0 => Side::Ours,
                    1 => Side::Python,
                    _ if turn % 2 == oid % 2 => Side::Ours,
                    _ => Side::Python,
                };
                Turn { side, ops: self.ops() }
            })
            .collect();
        Program { family: self.family, kind: self.kind, oid, sizes: self.sizes, turns }
    }

    /// A turn: mostly one that grows or shrinks the tree.
    fn ops(&mut self) -> Vec<Vec<Json>> {
        let count = 1 + self.dice.below(if self.sizes.1 < 10 { 40 } else { self.sizes.0 });
        let grows = self.dice.pick(&[90, 70, 50, 30, 5]);
        let mut ops = Vec::new();
        match self.dice.below(12) {
            // Each key in a row, upwards or downwards.
            0..=2 => {
                let mut row: Vec<u64> = (0..self.keys).collect();
                if self.dice.one_in(2) {
                    row.reverse();
                }
                let put = grows > 20;
                let from = self.dice.below(self.keys) as usize;
                for number in row.into_iter().skip(if self.dice.one_in(2) { from } else { 0 }) {
                    ops.push(if put { self.put(number) } else { vec![json!("remove"), self.key(number)] });
                }
            }
            3 => {
                ops.push(vec![json!("clear")]);
            }
            _ => {}
        }
        for _ in 0..count {
            let number = self.dice.below(self.keys);
            ops.push(match self.dice.below(100) {
                roll if roll < grows => self.put(number),
                95.. => vec![json!("pop")],
                90.. => vec![json!("get"), self.key(number)],
                88.. => self.range(),
                _ => vec![json!("remove"), self.key(number)],
            });
        }
        ops
    }

    fn range(&mut self) -> Vec<Json> {
        let end = |author: &mut Author| match author.dice.one_in(4) {
            true => Json::Null,
            false => {
                let number = author.dice.below(author.keys);
                author.key(number)
            }
        };
        let (low, high) = (end(self), end(self));
        // Python takes an excluded end without a key for the first or last key.
        let excludes = [!low.is_null() && self.dice.one_in(2), !high.is_null() && self.dice.one_in(2)];
        vec![json!("range"), low, high, json!(excludes[0]), json!(excludes[1])]
    }

    fn put(&mut self, number: u64) -> Vec<Json> {
        let key = self.key(number);
        match self.kind {
            "TreeSet" => vec![json!("add"), key],
            _ => {
                let name = if self.dice.one_in(4) { "insert" } else { "set" };
                vec![json!(name), key, self.value()]
            }
        }
    }

    fn key(&mut self, number: u64) -> Json {
        let signed = number as i64 - self.keys as i64 / 2;
        match (&self.family[..1], self.style) {
            ("f", _) => json!({ "b": format!("{number:04x}") }),
            ("I", _) => json!(signed * (i64::from(i32::MAX) / self.keys as i64)),
            ("U", _) => json!(number * (u64::from(u32::MAX) / self.keys)),
            ("L", _) => json!(signed * (i64::MAX / self.keys as i64)),
            ("Q", _) => json!(number * (u64::MAX / self.keys)),
            (_, 0) => json!(signed),
            (_, 1) => json!(format!("k\u{e9}\u{1f40d}{number}")),
            (_, 2) => json!({ "b": format!("ff{number:06x}") }),
            (_, 3) if number.is_multiple_of(2) => json!({ "f": number as f64 / 4.0 + 0.125 }),
            (_, 3) => json!(number),
            (_, 4) => json!({ "t": [number / 10, { "t": [format!("x{}", number % 10)] }] }),
            (_, _) if number == 0 => Json::Null,
            (_, _) => json!(number),
        }
    }

    fn value(&mut self) -> Json {
        let number = self.dice.below(5);
        match &self.family[1..] {
            "s" => json!({ "b": format!("{number:012x}") }),
            "I" | "L" => json!(number as i64 - 2),
            "U" | "Q" => json!(number),
            "F" => json!({ "f": number as f64 / 4.0 }),
            _ => match number {
                0 => Json::Null,
                1 => json!("text"),
                2 => json!({ "t": [1, "two"] }),
                _ => json!(number),
            },
        }
    }
}
