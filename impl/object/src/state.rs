//! The state of most classes: a dict of attributes.

use crate::error::Trouble;
use crate::object::Kept;
use crate::value::{Record, Value};

/// The attributes of a record, to be taken out one by one.
#[derive(Debug)]
pub struct Named(Vec<(Value, Value)>);

impl Named {
    /// Takes an attribute out. If it was written twice, the last one counts.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().rposition(|(key, _)| key.as_text() == Some(name))?;
        let value = self.0.remove(at).1;
        self.0.retain(|(key, _)| key.as_text() != Some(name));
        Some(value)
    }

    /// The attributes that are left.
    pub fn rest(mut self) -> Vec<(Value, Value)> {
        self.0.shrink_to_fit();
        self.0
    }
}

/// A record taken apart.
#[derive(Debug)]
pub struct Attributes {
    /// The attributes.
    pub named: Named,
    /// The rest of the record.
    pub kept: Kept,
}

/// Takes a record apart.
///
/// # Errors
///
/// The state is not a dict, or `None`, which is the state of an object without attributes.
pub fn attributes_of(record: Record, class: (&str, &str)) -> Result<Attributes, Trouble> {
    let Record { class: first, state, protocol } = record;
    let is_plain = matches!(&first, Value::Class(name) if (name.module.as_str(), name.name.as_str()) == class);
    let named = match state {
        Value::Dict(pairs) => pairs,
        Value::None => Vec::new(),
        other => return Err(Trouble::Shape { expected: "dict", found: other.kind() }),
    };
    let kept = Kept { class: (!is_plain).then_some(first), attributes: Vec::new(), protocol };
    Ok(Attributes { named: Named(named), kept })
}

/// A record with these attributes, and those that were kept.
pub fn record_of(class: (&str, &str), attributes: Vec<(&str, Value)>, kept: Option<&Kept>) -> Record {
    let named = attributes.into_iter().map(|(name, value)| (Value::text(name), value));
    let rest = kept.map(|kept| kept.attributes.clone()).unwrap_or_default();
    Record {
        class: kept.and_then(|kept| kept.class.clone()).unwrap_or_else(|| Value::class(class.0, class.1)),
        state: Value::Dict(named.chain(rest).collect()),
        protocol: kept.map_or(3, |kept| kept.protocol),
    }
}
