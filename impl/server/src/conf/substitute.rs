//! `$name`, `${name}`, `$(VARIABLE)` and `$$`.

use std::collections::BTreeMap;

use super::Source;

/// Bytes of a value. Each definition may name the one before it twice, so that without a limit thirty lines make a
/// gigabyte.
const VALUE_SIZE_MAX: usize = 64 << 10;

/// A text with everything put in that it names. Names of definitions count in any case; variables of the environment as
/// they are written.
pub(super) fn substitute(
    text: &str,
    defines: &BTreeMap<String, String>,
    source: &dyn Source,
) -> Result<String, String> {
    let mut out = String::new();
    let too_long = || format!("with all that it names, the value has more than {VALUE_SIZE_MAX} bytes");
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (value, left) = match after.chars().next() {
            None => return Err("a lone $ at the end: write $$ for a dollar".to_owned()),
            Some('$') => ("$".to_owned(), &after[1..]),
            Some('{') => {
                let (name, left) = enclosed(&after[1..], '}')?;
                (defined(name, defines)?, left)
            }
            Some('(') => {
                let (name, left) = enclosed(&after[1..], ')')?;
                let value = source.variable(name);
                (value.ok_or_else(|| format!("there is no variable {name} in the environment"))?, left)
            }
            Some(_) => {
                let length = name_length(after);
                if length == 0 {
                    return Err("a $ without a name: write $$ for a dollar".to_owned());
                }
                (defined(&after[..length], defines)?, &after[length..])
            }
        };
        out.push_str(&value);
        rest = left;
        if out.len() > VALUE_SIZE_MAX {
            return Err(too_long());
        }
    }
    out.push_str(rest);
    if out.len() > VALUE_SIZE_MAX { Err(too_long()) } else { Ok(out) }
}

fn enclosed(text: &str, end: char) -> Result<(&str, &str), String> {
    let (name, rest) = text.split_at(name_length(text));
    match rest.strip_prefix(end) {
        Some(rest) if !name.is_empty() => Ok((name, rest)),
        _ => Err(format!("a $ with an open bracket, and no name and {end} after it")),
    }
}

fn defined(name: &str, defines: &BTreeMap<String, String>) -> Result<String, String> {
    let value = defines.get(&name.to_lowercase());
    value.cloned().ok_or_else(|| format!("{name} is not defined: %define it, or write $$ for a dollar"))
}

/// How long the name is that the text begins with: a letter or `_`, and then letters, digits and `_`.
fn name_length(text: &str) -> usize {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { 0 } else { end }
}

/// Whether a text is a name and nothing else.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && name_length(text) == text.len()
}
