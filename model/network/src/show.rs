//! Messages as people read them.

use vellum_wire::{Message, Value};

/// A message in one line.
pub fn show(message: &Message) -> String {
    let Message { id, flag, name, args } = message;
    let name = match name {
        Value::Text(name) => name.clone(),
        other => value(other),
    };
    let args = match args {
        Value::Tuple(_) => value(args),
        other if name == ".reply" => format!(" {}", value(other)),
        other => format!("({})", value(other)),
    };
    match (message.is_one_way(), name.as_str(), flag) {
        (_, ".reply", Value::Int(2)) => format!("{} raises {}", value(id), args.trim()),
        (_, ".reply", _) => format!("{} = {}", value(id), args.trim()),
        (true, ..) => format!("{name}{args}"),
        (false, ..) => format!("{} {name}{args}", value(id)),
    }
}

/// A value as Python would print it, but that ids are shown by their last digits.
pub fn value(shown: &Value) -> String {
    let list = |items: &[Value]| items.iter().map(value).collect::<Vec<_>>().join(", ");
    match shown {
        Value::None => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => format!("'{text}'"),
        Value::Bytes(bytes) => match <[u8; 8]>::try_from(&**bytes).map(u64::from_be_bytes) {
            Ok(0x7fff_ffff_ffff_ffff) => "max".to_owned(),
            Ok(small @ 0..0x10000) => format!("#{small}"),
            Ok(tid) => format!("@{tid:x}"),
            Err(_) => format!("b'{}'", bytes.escape_ascii()),
        },
        Value::Tuple(items) if items.len() == 1 => format!("({})", value(&items[0])),
        Value::Tuple(items) => format!("({})", list(items)),
        Value::List(items) => format!("[{}]", list(items)),
        Value::Dict(pairs) => {
            let pairs = pairs.iter().map(|(key, found)| format!("{}: {}", value(key), value(found)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
