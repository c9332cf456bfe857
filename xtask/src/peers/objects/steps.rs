//! Steps of a history: made by chance, carried out on the model, and written for Python.

use serde_json::{Value as Json, json};

use super::plain::{FIELDS, Plain, Thing, Things};
use crate::peers::dice::Dice;

/// A step. `on` is a label.
#[derive(Clone, Debug)]
pub enum Step {
    Make { on: String, kind: &'static str },
    Set { on: String, key: Plain, value: Plain },
    Del { on: String, key: Plain },
    Clear { on: String },
    Insert { on: String, at: usize, value: Plain },
    Put { on: String, at: usize, value: Plain },
    Cut { on: String, at: usize },
    Reverse { on: String },
    Attribute { on: String, name: String, value: Plain },
    Forget { on: String, name: String },
    Count { on: String, by: i64 },
    Savepoint,
    Rollback,
}

impl Step {
    /// A step that fits these things.
    pub fn any(dice: &mut Dice, things: &Things, has_savepoint: bool) -> Step {
        let labels: Vec<String> = things.keys().cloned().collect();
        if labels.len() < 2 || (labels.len() < 7 && dice.one_in(5)) {
            let kind = dice.pick(&["mapping", "list", "note", "note", "counter"]);
            return Step::Make { on: format!("t{}", labels.len()), kind };
        }
        match dice.below(14) {
            0 => return Step::Savepoint,
            1 if has_savepoint => return Step::Rollback,
            _ => {}
        }
        let on = labels[dice.below(labels.len() as u64) as usize].clone();
        let value = Plain::any(dice, &labels, 2);
        let at = |dice: &mut Dice, length: usize| dice.below(length as u64) as usize;
        match &things[&on] {
            Thing::Mapping(pairs) => match dice.below(5) {
                0 if !pairs.is_empty() => Step::Del { key: pairs[at(dice, pairs.len())].0.clone(), on },
                1 if dice.one_in(4) => Step::Clear { on },
                _ => Step::Set { on, key: Plain::key(dice), value },
            },
            Thing::List(items) => match dice.below(8) {
                0 | 1 if !items.is_empty() => Step::Put { at: at(dice, items.len()), on, value },
                2 if !items.is_empty() => Step::Cut { at: at(dice, items.len()), on },
                3 => Step::Reverse { on },
                4 if dice.one_in(4) => Step::Clear { on },
                _ => Step::Insert { at: at(dice, items.len() + 1), on, value },
            },
            Thing::Counter(_) => Step::Count { on, by: dice.pick(&[1, -3, 1000]) },
            Thing::Note { more, .. } => Step::on_note(dice, on, more.keys().next(), &labels, value),
        }
    }

    fn on_note(dice: &mut Dice, on: String, there: Option<&String>, labels: &[String], value: Plain) -> Step {
        let (name, value) = match dice.below(7) {
            0 => ("title", Plain::Text(format!("title {}", dice.below(100)))),
            1 => ("size", Plain::Int(dice.roll() as i64)),
            2 => ("tags", Plain::List((0..dice.below(4)).map(|_| Plain::any(dice, labels, 1)).collect())),
            3 => {
                let about = &labels[dice.below(labels.len() as u64) as usize];
                ("about", if dice.one_in(3) { Plain::None } else { Plain::Ref(about.clone()) })
            }
            4 if there.is_some() => return Step::Forget { on, name: there.cloned().unwrap_or_default() },
            _ => (dice.pick(&["color", "weight"]), value),
        };
        Step::Attribute { on, name: name.to_owned(), value }
    }

    /// Carries the step out on the model.
    pub fn play(&self, things: &mut Things, savepoints: &mut Vec<Things>) {
        match self {
            Step::Make { on, kind } => drop(things.insert(on.clone(), Thing::new(kind))),
            Step::Savepoint => savepoints.push(things.clone()),
            Step::Rollback => things.clone_from(savepoints.last().expect("a rollback follows a savepoint")),
            Step::Set { on, .. } | Step::Del { on, .. } | Step::Clear { on } | Step::Insert { on, .. } => {
                self.on_thing(things.get_mut(on).expect("a step fits the things"));
            }
            Step::Put { on, .. } | Step::Cut { on, .. } | Step::Reverse { on } | Step::Attribute { on, .. } => {
                self.on_thing(things.get_mut(on).expect("a step fits the things"));
            }
            Step::Forget { on, .. } | Step::Count { on, .. } => {
                self.on_thing(things.get_mut(on).expect("a step fits the things"));
            }
        }
    }

    fn on_thing(&self, thing: &mut Thing) {
        match (self, thing) {
            (Step::Set { key, value, .. }, Thing::Mapping(pairs)) => {
                match pairs.iter_mut().find(|(there, _)| there.is_key(key)) {
                    // The old key stays, also if the new one is of another type.
                    Some((_, old)) => *old = value.clone(),
                    None => pairs.push((key.clone(), value.clone())),
                }
            }
            (Step::Del { key, .. }, Thing::Mapping(pairs)) => pairs.retain(|(there, _)| !there.is_key(key)),
            (Step::Clear { .. }, Thing::Mapping(pairs)) => pairs.clear(),
            (Step::Clear { .. }, Thing::List(items)) => items.clear(),
            (Step::Insert { at, value, .. }, Thing::List(items)) => items.insert(*at, value.clone()),
            (Step::Put { at, value, .. }, Thing::List(items)) => items[*at] = value.clone(),
            (Step::Cut { at, .. }, Thing::List(items)) => drop(items.remove(*at)),
            (Step::Reverse { .. }, Thing::List(items)) => items.reverse(),
            (Step::Attribute { name, value, .. }, Thing::Note { fields, more }) => {
                match FIELDS.iter().position(|field| field == name) {
                    Some(field) => fields[field] = value.clone(),
                    None => drop(more.insert(name.clone(), value.clone())),
                }
            }
            (Step::Forget { name, .. }, Thing::Note { more, .. }) => drop(more.remove(name)),
            (Step::Count { by, .. }, Thing::Counter(count)) => *count += by,
            (step, thing) => unreachable!("{step:?} on {thing:?}"),
        }
    }

    pub fn json(&self) -> Json {
        match self {
            Step::Make { on, kind } => json!({ "op": "make", "on": on, "kind": kind }),
            Step::Set { on, key, value } => json!({ "op": "set", "on": on, "key": key.json(), "value": value.json() }),
            Step::Del { on, key } => json!({ "op": "del", "on": on, "key": key.json() }),
            Step::Clear { on } => json!({ "op": "clear", "on": on }),
            Step::Insert { on, at, value } => json!({ "op": "insert", "on": on, "at": at, "value": value.json() }),
            Step::Put { on, at, value } => json!({ "op": "put", "on": on, "at": at, "value": value.json() }),
            Step::Cut { on, at } => json!({ "op": "cut", "on": on, "at": at }),
            Step::Reverse { on } => json!({ "op": "reverse", "on": on }),
            Step::Attribute { on, name, value } => {
                json!({ "op": "attribute", "on": on, "name": name, "value": value.json() })
            }
            Step::Forget { on, name } => json!({ "op": "forget", "on": on, "name": name }),
            Step::Count { on, by } => json!({ "op": "count", "on": on, "by": by }),
            Step::Savepoint => json!({ "op": "savepoint" }),
            Step::Rollback => json!({ "op": "rollback" }),
        }
    }
}

/// Some steps, and the things after them.
pub fn some(dice: &mut Dice, things: &Things) -> (Vec<Step>, Things) {
    let (mut things, mut savepoints, mut steps) = (things.clone(), Vec::new(), Vec::new());
    for _ in 0..1 + dice.below(8) {
        let step = Step::any(dice, &things, !savepoints.is_empty());
        step.play(&mut things, &mut savepoints);
        steps.push(step);
    }
    (steps, things)
}
