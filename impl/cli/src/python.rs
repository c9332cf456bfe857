//! Values as Python writes them, where a command answers as a Python program does.

/// A text.
pub fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A float: as short as can be, and with an exponent if it is very large or very small.
pub fn float(number: f64) -> String {
    let is_plain = number == 0.0 || (1e-4..1e16).contains(&number.abs());
    if is_plain || !number.is_finite() {
        return format!("{number:?}").replace("NaN", "nan");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').expect("it has an exponent");
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPython's forms of the same values.
    #[test]
    fn values_are_written_as_python_writes_them() {
        let floats = [0.0, 1.0, -2.5, 1e-5, 123456.789, 1e16, 0.0001, 1.5e300, 1e15];
        let wanted = ["0.0", "1.0", "-2.5", "1e-05", "123456.789", "1e+16", "0.0001", "1.5e+300", "1000000000000000.0"];
        assert_eq!(floats.map(float), wanted);
        let texts = ["1", "it's", "\"it's\"", "a\\b\n"];
        assert_eq!(texts.map(repr), ["'1'", "\"it's\"", "'\"it\\'s\"'", "'a\\\\b\\n'"]);
    }
}
