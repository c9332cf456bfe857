//! Histories as people write them: one step a line.
//!
//! ```text
//! begin a user=ann description=x*70000 extension tid=@3 packed      whatever of it is said
//! store a 1 @0: 5 -> 2 3 weak 4        object 1, which is new; the record says 5, and refers to others
//! store a 1 @1 in draft: 6+            in a version, made to the revision of @1; a counter, which can be merged
//! store a 1 @1: empty                  a record of no bytes
//! delete a 1 @1
//! check a 1 @1
//! undo a @2
//! commit-version a draft to other      or without `to`: to the trunk
//! abort-version a draft
//! restore a 1 in draft under @1 source @2: 5    or `nothing`
//! vote a @4                            the clock stands at minute 4
//! finish a
//! commit a @4                          vote and finish
//! abort a
//! pack @3 collect go-on
//! pack @3 by-counts
//! reopen read-only
//! ```
//!
//! A transaction begins with its first line. Text after a `#` is a remark; so is everything from a line `---` to the
//! next empty line, which is where the answers stand in a script that was played.

use std::fmt;

use vellum_storage::{Oid, Tid};

use crate::node::{Beside, Node};
use crate::question::Question;
use crate::step::{Change, Meta, Name, Outcome, Refusal, Step};
use crate::tick::{self, Tick};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Begin { transaction, meta } => write!(f, "begin {transaction}{meta}"),
            Step::Change { transaction, change } => change.write(*transaction, f),
            Step::Vote { transaction, clock } => write!(f, "vote {transaction} {}", Tick(*clock)),
            Step::Finish { transaction } => write!(f, "finish {transaction}"),
            Step::Commit { transaction, clock } => write!(f, "commit {transaction} {}", Tick(*clock)),
            Step::Abort { transaction } => write!(f, "abort {transaction}"),
            Step::Pack { to, collect, go_on } => {
                write!(f, "pack {}{}{}", Tick(*to), word(*collect, " collect"), word(*go_on, " go-on"))
            }
            Step::PackByCounts { to } => write!(f, "pack {} by-counts", Tick(*to)),
            Step::Reopen { read_only } => write!(f, "reopen{}", word(*read_only, " read-only")),
        }
    }
}

fn word(there: bool, word: &str) -> &str {
    if there { word } else { "" }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [("user", &self.user), ("description", &self.description)] {
            let first = value.chars().next();
            match first {
                None => {}
                Some(c) if value.len() > 40 && value.chars().all(|other| other == c) => {
                    write!(f, " {name}={c}*{}", value.chars().count())?;
                }
                Some(_) => write!(f, " {name}={value}")?,
            }
        }
        f.write_str(word(self.extension, " extension"))?;
        if let Some(tid) = self.tid {
            write!(f, " tid={}", Tick(tid))?;
        }
        f.write_str(word(self.packed, " packed"))
    }
}

impl Change {
    fn write(&self, by: Name, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_version = |f: &mut fmt::Formatter<'_>, version: &str| match version {
            "" => Ok(()),
            version => write!(f, " in {version}"),
        };
        match self {
            Change::Store { oid, serial, node, version } => {
                write!(f, "store {by} {} {}", oid.0, Tick(*serial))?;
                in_version(f, version)?;
                match node {
                    Some(node) => write!(f, ": {node}"),
                    None => f.write_str(": empty"),
                }
            }
            Change::Delete { oid, serial } => write!(f, "delete {by} {} {}", oid.0, Tick(*serial)),
            Change::CheckCurrent { oid, serial } => write!(f, "check {by} {} {}", oid.0, Tick(*serial)),
            Change::Undo { tid } => write!(f, "undo {by} {}", Tick(*tid)),
            Change::CommitVersion { from, to } => {
                write!(f, "commit-version {by} {}", quoted(from))?;
                if to.is_empty() { Ok(()) } else { write!(f, " to {to}") }
            }
            Change::AbortVersion { from } => write!(f, "abort-version {by} {}", quoted(from)),
            Change::Restore { oid, node, version, source, base } => {
                write!(f, "restore {by} {}", oid.0)?;
                in_version(f, version)?;
                if let Some(base) = base {
                    write!(f, " under {}", Tick(*base))?;
                }
                if let Some(source) = source {
                    write!(f, " source {}", Tick(*source))?;
                }
                match node {
                    Some(node) => write!(f, ": {node}"),
                    None => f.write_str(": nothing"),
                }
            }
        }
    }
}

/// The trunk, where a version's name must stand.
const TRUNK: &str = "trunk";

fn quoted(version: &str) -> &str {
    if version.is_empty() { TRUNK } else { version }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Voted { resolved } if resolved.is_empty() => f.write_str("voted"),
            Outcome::Voted { resolved } => write!(f, "voted, merged: {}", oids(resolved)),
            Outcome::Finished { tid } => write!(f, "finished {}", Tick(*tid)),
            Outcome::Busy => f.write_str("busy"),
            Outcome::Packed { dangling } => match dangling.as_deref() {
                None | Some([]) => f.write_str("packed"),
                Some(dangling) => write!(f, "packed, dangling: {}", pairs(dangling)),
            },
            Outcome::Refused { why } => write!(f, "refused: {why}"),
            Outcome::Failed { message } => write!(f, "failed: {message}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Key { oid } => write!(f, "no object {}", oid.0),
            Refusal::Conflict { oid, committed, serial } => {
                write!(f, "conflict on {}, which is at {}, not {}", oid.0, Tick(*committed), Tick(*serial))
            }
            Refusal::ReadConflict { oid, committed, serial } => {
                write!(f, "read conflict on {}, which is at {}, not {}", oid.0, Tick(*committed), Tick(*serial))
            }
            Refusal::VersionLock { oid } => write!(f, "a version holds {}", oid.0),
            Refusal::VersionEnd => f.write_str("that version cannot be ended so"),
            Refusal::NotUndoable { tid } => write!(f, "{} cannot be undone", Tick(*tid)),
            Refusal::UndoConflict { oids: failed } => write!(f, "the undo would take back more, of {}", oids(failed)),
            Refusal::Empty { oid } => write!(f, "an empty record for {}", oid.0),
            Refusal::TooLong => f.write_str("user or description is too long"),
            Refusal::NotLater => f.write_str("the tid is not later than the last"),
            Refusal::ReadOnly => f.write_str("it is read-only"),
            Refusal::Untold { oid } => write!(f, "the references of {} are not known", oid.0),
            Refusal::Dangling { references } => write!(f, "dangling: {}", pairs(references)),
        }
    }
}

pub(crate) fn oids(oids: &[Oid]) -> String {
    oids.iter().map(|oid| oid.0.to_string()).collect::<Vec<_>>().join(" ")
}

fn pairs(pairs: &[(Oid, Oid)]) -> String {
    pairs.iter().map(|(from, to)| format!("{} -> {}", from.0, to.0)).collect::<Vec<_>>().join(", ")
}

/// A line that is no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{text}`: {why}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// The error.
    pub why: &'static str,
}

/// A script's steps, in blocks: an empty line ends one.
pub fn blocks(script: &str) -> Result<Vec<Vec<Step>>, ParseError> {
    let (mut blocks, mut block, mut answers) = (Vec::new(), Vec::new(), false);
    for (number, line) in script.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if line.trim().is_empty() {
            answers = false;
            if !block.is_empty() {
                blocks.push(std::mem::take(&mut block));
            }
        } else if text == "---" {
            answers = true;
        } else if !answers && !text.is_empty() {
            let error = |why| ParseError { line: number + 1, text: line.to_owned(), why };
            block.push(step(text).map_err(error)?);
        }
    }
    blocks.extend(Some(block).filter(|block| !block.is_empty()));
    Ok(blocks)
}

/// A script's steps.
pub fn parse(script: &str) -> Result<Vec<Step>, ParseError> {
    Ok(blocks(script)?.concat())
}

pub(crate) type Parsed<T> = Result<T, &'static str>;

/// One step, without remarks.
pub(crate) fn step(line: &str) -> Parsed<Step> {
    let (head, node) = match line.split_once(": ") {
        Some((head, node)) => (head, Some(node)),
        None => (line, None),
    };
    let mut words = Words(head.split_whitespace().collect());
    let verb = words.take().ok_or("no verb")?;
    let step = match verb {
        "pack" => {
            let to = words.tid()?;
            if words.skip("by-counts") {
                return words.end(Step::PackByCounts { to });
            }
            Step::Pack { to, collect: words.skip("collect"), go_on: words.skip("go-on") }
        }
        "reopen" => Step::Reopen { read_only: words.skip("read-only") },
        _ => in_transaction(verb, &mut words, node)?,
    };
    words.end(step)
}

/// A question, as a story asks it. The words are [`Question`]'s; a missing range or limit means everything.
///
/// ```text
/// load 1 [in draft]    load_before 1 @2    load_serial 1 @2    load_blob 1 @2    history 1 [newest]
/// undo_log [first last]    transactions [@1 @3] [newest-first]    last_transaction    last_invalidations [last]
/// current_records [from]    modified_in_version 1    versions
/// ```
pub(crate) fn question(line: &str) -> Parsed<Question> {
    let mut words = Words(line.split_whitespace().collect());
    let question = match words.take().ok_or("which question?")? {
        "load" => {
            let oid = words.oid()?;
            let version = if words.skip("in") { words.version()? } else { String::new() };
            Question::Load { oid, version }
        }
        "load_before" => Question::LoadBefore { oid: words.oid()?, before: words.tid()? },
        "load_blob" => Question::LoadBlob { oid: words.oid()?, tid: words.tid()? },
        "load_serial" => Question::LoadSerial { oid: words.oid()?, tid: words.tid()? },
        "history" => Question::History { oid: words.oid()?, limit: words.number_or(usize::MAX)? },
        "undo_log" => Question::UndoLog { first: words.number_or(0)?, last: words.number_or(usize::MAX)? },
        "transactions" => {
            let newest_first = words.skip("newest-first");
            let all = words.0.is_empty();
            let (first, last) = if all { (Tid::ZERO, Tid::MAX) } else { (words.tid()?, words.tid()?) };
            Question::Transactions { first, last, newest_first: newest_first || words.skip("newest-first") }
        }
        "last_transaction" => Question::LastTransaction,
        "last_invalidations" => Question::LastInvalidations { count: words.number_or(usize::MAX)? },
        "current_records" => {
            Question::CurrentRecords { first: if words.0.is_empty() { Oid::ROOT } else { words.oid()? } }
        }
        "modified_in_version" => Question::ModifiedInVersion { oid: words.oid()? },
        "versions" => Question::Versions,
        _ => return Err("no such question"),
    };
    words.end(question)
}

fn in_transaction(verb: &str, words: &mut Words<'_>, node: Option<&str>) -> Parsed<Step> {
    let name = words.take().filter(|name| name.len() == 1).ok_or("which transaction? `a`, `b` or `c`")?;
    let transaction = name.chars().next().filter(char::is_ascii_lowercase).ok_or("a transaction is one letter")?;
    Ok(match verb {
        "begin" => Step::Begin { transaction, meta: words.meta()? },
        "vote" => Step::Vote { transaction, clock: words.tid()? },
        "finish" => Step::Finish { transaction },
        "commit" => Step::Commit { transaction, clock: words.tid()? },
        "abort" => Step::Abort { transaction },
        _ => Step::Change { transaction, change: change(verb, words, node)? },
    })
}

fn change(verb: &str, words: &mut Words<'_>, node: Option<&str>) -> Parsed<Change> {
    let version = |words: &mut Words<'_>, before: &str| -> Parsed<String> {
        if words.skip(before) { Ok(words.take().ok_or("which version?")?.to_owned()) } else { Ok(String::new()) }
    };
    let content = |nothing: &str| match node.ok_or("what? `: 5 -> 2`")? {
        word if word == nothing => Ok(None),
        node => parse_node(node).map(Some),
    };
    Ok(match verb {
        "store" => {
            let (oid, serial) = (words.oid()?, words.tid()?);
            Change::Store { oid, serial, version: version(words, "in")?, node: content("empty")? }
        }
        "delete" => Change::Delete { oid: words.oid()?, serial: words.tid()? },
        "check" => Change::CheckCurrent { oid: words.oid()?, serial: words.tid()? },
        "undo" => Change::Undo { tid: words.tid()? },
        "commit-version" => Change::CommitVersion { from: words.version()?, to: version(words, "to")? },
        "abort-version" => Change::AbortVersion { from: words.version()? },
        "restore" => {
            let (oid, version) = (words.oid()?, version(words, "in")?);
            let base = if words.skip("under") { Some(words.tid()?) } else { None };
            let source = if words.skip("source") { Some(words.tid()?) } else { None };
            Change::Restore { oid, version, source, base, node: content("nothing")? }
        }
        _ => return Err("no such verb"),
    })
}

fn parse_node(text: &str) -> Parsed<Node> {
    let mut words = text.split_whitespace();
    let number = words.next().ok_or("which number?")?;
    let counter = number.ends_with('+');
    let number = number.trim_end_matches('+').parse().map_err(|_| "a record is a number from 0 to 255")?;
    let mut node = Node { counter, number, ..Node::default() };
    let mut list = None;
    while let Some(word) = words.next() {
        match (word, list) {
            ("no-blob", _) => (node.beside, list) = (Beside::NoBlob, None),
            ("blob", _) => {
                let number =
                    words.next().and_then(|number| number.parse().ok()).ok_or("which blob? a number to 255")?;
                (node.beside, list) = (Beside::Blob(number), None);
            }
            ("->", _) => list = Some(0),
            ("weak", _) => list = Some(1),
            ("foreign", _) => list = Some(2),
            ("odd", _) => list = Some(3),
            (oid, Some(n)) => {
                let oid = Oid(oid.parse().map_err(|_| "an object is a number")?);
                [&mut node.strong, &mut node.weak, &mut node.foreign, &mut node.odd][n].push(oid);
            }
            _ => return Err("after the number comes `->`, `weak`, `foreign`, `odd`, `blob` or `no-blob`"),
        }
    }
    // As every record of a blob.
    node.counter |= node.beside != Beside::Nothing;
    Ok(node)
}

struct Words<'a>(std::collections::VecDeque<&'a str>);

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a str> {
        self.0.pop_front()
    }

    fn skip(&mut self, word: &str) -> bool {
        let there = self.0.front() == Some(&word);
        there.then(|| self.0.pop_front()).is_some()
    }

    fn end<T>(&self, parsed: T) -> Parsed<T> {
        if self.0.is_empty() { Ok(parsed) } else { Err("there is something more on the line than belongs there") }
    }

    fn number_or(&mut self, all: usize) -> Parsed<usize> {
        self.take().map_or(Ok(all), |word| word.parse().map_err(|_| "how many? a number"))
    }

    fn oid(&mut self) -> Parsed<Oid> {
        self.take().and_then(|word| word.parse().ok()).map(Oid).ok_or("which object? a number")
    }

    fn tid(&mut self) -> Parsed<Tid> {
        self.take().and_then(tick::parse).ok_or("when? `@3`")
    }

    fn version(&mut self) -> Parsed<String> {
        let word = self.take().ok_or("which version?")?;
        Ok(if word == TRUNK { String::new() } else { word.to_owned() })
    }

    fn meta(&mut self) -> Parsed<Meta> {
        let mut meta = Meta::default();
        while let Some(word) = self.take() {
            match word.split_once('=') {
                Some(("user", value)) => meta.user = repeated(value)?,
                Some(("description", value)) => meta.description = repeated(value)?,
                Some(("tid", value)) => meta.tid = Some(tick::parse(value).ok_or("tid=@3")?),
                None if word == "extension" => meta.extension = true,
                None if word == "packed" => meta.packed = true,
                _ => return Err("of a transaction is said user=, description=, tid=, extension, packed"),
            }
        }
        Ok(meta)
    }
}

/// Longest user or description that a script can make, in bytes.
const REPEATED_MAX: usize = 1 << 20;

fn repeated(text: &str) -> Parsed<String> {
    match text.split_once('*') {
        None => Ok(text.to_owned()),
        Some((text, times)) => {
            let times: usize = times.parse().map_err(|_| "x*70000 is so many x")?;
            if times.saturating_mul(text.len()) > REPEATED_MAX { Err("too many") } else { Ok(text.repeat(times)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let script = "\
begin a user=ann description=x*70000 extension tid=@3 packed
begin b
store a 1 @0: 5 -> 2 3 weak 4 foreign 5 odd 6
store a 2 @0: 5+ -> 2 blob 3
store a 2 @0: 5+ no-blob
store a 1 @1+1 in draft: 6+
store a 1 @1: empty
delete a 1 @1
check a 1 @1
undo a @2
commit-version a draft to other
commit-version a draft
abort-version a trunk
restore a 1 in draft under @1 source @2: 5
restore a 1: nothing
vote a @4
finish a
commit a @4
abort a
pack @3 collect go-on
pack @3 by-counts
pack @3
reopen read-only
reopen
";
        let steps = parse(script).unwrap();
        let written: String = steps.iter().map(|step| format!("{step}\n")).collect();
        assert_eq!(written, script);
        for line in script.lines() {
            for cut in 0..line.len() {
                // Every answer is fine.
                let _ = parse(&line[..cut]);
            }
        }
    }

    #[test]
    fn answers_and_remarks_are_passed_over() {
        let script = "store a 1 @0: 5 # new\n---\nwhatever\n\ncommit a @1\n\n\n# only a remark\n";
        assert_eq!(blocks(script).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        let error = parse("commit a @1\nstore a x").unwrap_err();
        assert_eq!(error.to_string(), "line 2: `store a x`: which object? a number");
    }
}
