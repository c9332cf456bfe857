//! How a line of a log is written: the formats of Python's `logging`, in their classic style.

/// A format, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// The pieces of a line.
    pub pieces: Vec<Piece>,
    /// How times are written, in the words of `strftime`.
    pub dates: String,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// Something about the event, filled up with blanks to a width: on the left side, or on the right if that is so.
    Field(Field, usize, bool),
}

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of Python's records")]
pub enum Field {
    Asctime,
    Created,
    LevelName,
    LevelNumber,
    Message,
    Milliseconds,
    Name,
    Process,
    /// A field of Python's that has no counterpart: written as `-`.
    Other,
}

/// Widths above this are a mistake.
const WIDTH_MAX: usize = 1000;

/// Fields of Python's records that say where in Python's code they were made, and the like.
const OTHER: [&str; 9] =
    ["pathname", "filename", "module", "lineno", "funcName", "thread", "threadName", "processName", "relativeCreated"];

impl LogFormat {
    /// ZEO's own: each record behind a line of dashes.
    pub const ZEO: &'static str = r"------\n%(asctime)s %(levelname)s %(name)s %(message)s";
    /// ZEO's own for times.
    pub const DATES: &'static str = "%Y-%m-%dT%H:%M:%S";

    /// Takes a format apart.
    ///
    /// # Errors
    ///
    /// A field is not known, or a `%` begins none.
    pub fn parse(format: &str, dates: &str) -> Result<LogFormat, String> {
        let (mut pieces, mut text) = (Vec::new(), String::new());
        let format = unescape(format);
        let mut rest = format.as_str();
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                text.push('%');
                rest = after;
                continue;
            }
            let (field, width, is_left, after) = field(after)?;
            pieces.extend(Some(std::mem::take(&mut text)).filter(|text| !text.is_empty()).map(Piece::Text));
            pieces.push(Piece::Field(field, width, is_left));
            rest = after;
        }
        text.push_str(rest);
        pieces.extend(Some(text).filter(|text| !text.is_empty()).map(Piece::Text));
        Ok(LogFormat { pieces, dates: dates.to_owned() })
    }
}

/// Reads a field behind a `%`: `(NAME)`, perhaps a minus and a width, and a letter; and the rest.
fn field(text: &str) -> Result<(Field, usize, bool, &str), String> {
    let wrong = || format!("format has a % that begins no field at {:?}: write %% for a percent sign", short(text));
    let (name, rest) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(wrong)?;
    let field = match name {
        "asctime" => Field::Asctime,
        "created" => Field::Created,
        "levelname" => Field::LevelName,
        "levelno" => Field::LevelNumber,
        "message" => Field::Message,
        "msecs" => Field::Milliseconds,
        "name" => Field::Name,
        "process" => Field::Process,
        other if OTHER.contains(&other) => Field::Other,
        other => return Err(format!("format names {:?}, which no record of a log has", short(other))),
    };
    let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (how, rest) = (&rest[..end], &rest[end + 1..]);
    let digits = how.trim_start_matches(['-', '+', ' ', '0', '#']);
    let width = digits.split('.').next().unwrap_or_default();
    let width = if width.is_empty() { 0 } else { width.parse().map_err(|_| wrong())? };
    if width > WIDTH_MAX {
        return Err(format!("format has a field of {width} columns, and at most {WIDTH_MAX} are written"));
    }
    Ok((field, width, how.starts_with('-'), rest))
}

fn short(text: &str) -> String {
    text.chars().take(20).collect()
}

/// Replaces the escapes of Python's texts, for a line's end and so on.
fn unescape(text: &str) -> String {
    [(r"\b", "\u{8}"), (r"\f", "\u{c}"), (r"\n", "\n"), (r"\r", "\r"), (r"\t", "\t")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_taken_apart() {
        let format = LogFormat::parse(r"%(asctime)s\n%(levelname)-8s 100%% %(message)s", "%H").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        let wanted = [
            Piece::Field(Field::Asctime, 0, false),
            text("\n"),
            Piece::Field(Field::LevelName, 8, true),
            text(" 100% "),
            Piece::Field(Field::Message, 0, false),
        ];
        assert_eq!(format.pieces, wanted);
        for (wrong, why) in [
            ("100% of it", "begins no field"),
            ("%(mesage)s", "names \"mesage\""),
            ("%(message)", "begins no field"),
            ("%(message", "begins no field"),
            ("%", "begins no field"),
            ("%(message)9999s", "columns"),
        ] {
            let error = LogFormat::parse(wrong, "").unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
