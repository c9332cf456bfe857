//! The stories of the command line, on both engines from one text.
//!
//! A story is a list of commands. It plays on the `Data.fs` files of a sandbox, and what a person sees is its snapshot.
//! Then it plays on the same databases in tables. These have the same names, since a command tells the kinds apart by
//! their contents. So both say the same, except for what this file names.

use super::Sandbox;

/// Plays the story on both, and compares them. Returns what a person sees on the `Data.fs` files.
pub fn play(sandbox: &Sandbox, commands: &[&[&str]]) -> String {
    let tables = in_tables(sandbox);
    let mut seen = Vec::new();
    for words in commands {
        let text = sandbox.run(words).transcript(words);
        if words[0] == "check" {
            is_sound_in_tables(&tables, words);
        } else {
            let theirs = tables.run(words).transcript(words);
            let (one, other) = (alike(words, &text), alike(words, &theirs));
            assert!(one == other, "on a Data.fs:\n{one}\n\nin tables:\n{other}");
        }
        seen.push(text);
    }
    seen.join("\n")
}

/// A sandbox with the same files, in which each database is in tables.
pub fn in_tables(sandbox: &Sandbox) -> Sandbox {
    let tables = Sandbox::new();
    for (path, bytes) in sandbox.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if !bytes.starts_with(b"FS30") && !bytes.starts_with(b"FS21") {
            if !name.ends_with(".lock") && !name.ends_with(".index") {
                tables.file(name, &bytes);
            }
            continue;
        }
        let to = tables.path("copy.vellum");
        let run = sandbox.run(&["copy", name, to.to_str().unwrap()]);
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
        std::fs::rename(&to, tables.path(name)).unwrap();
        std::fs::remove_file(tables.path("copy.vellum.lock")).unwrap();
    }
    tables
}

/// A check is about the format, so that of tables has words of its own. It finds nothing wrong after what was done.
/// The other checks read a `Data.fs` only.
fn is_sound_in_tables(tables: &Sandbox, words: &[&str]) {
    if let ["check", file] = words {
        let run = tables.run(words);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.starts_with(&format!("{file}: no problems")), "{}", run.stdout);
    }
}

/// The text without what depends on the engine for good reason:
///
/// - positions, which a `Data.fs` alone has, and the columns of `dump` for them;
/// - in `dump`, the transaction of shared data: a backpointer can lead to one that shares it, too, and the table names
///   the one that holds it.
fn alike(words: &[&str], text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("  position ")) {
        let line = match words[0] {
            "dump" => without_columns(line),
            _ => line.to_owned(),
        };
        let fields = ["\"position\":", "\"previous\":", "\"backpointer\":"];
        lines.push(fields.iter().fold(line, |line, field| without_number(&line, field)));
    }
    lines.join("\n")
}

/// A row of `dump` without the two positions, and without the place of shared data.
fn without_columns(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_number = |word: &str| word == "-" || word.bytes().all(|byte| byte.is_ascii_digit());
    let rest = match words[..] {
        [position, oid, previous, ..] if is_number(position) && is_number(previous) && oid.len() == 16 => {
            [&[oid], &words[3..]].concat()
        }
        ["position", "oid", "previous", ..] => [&["oid"], &words[3..]].concat(),
        [oid, ..] if line.starts_with("    ") && oid.len() == 16 => words,
        ["oid", "class", ..] => words,
        _ => return line.to_owned(),
    };
    let mut row = rest.join(" ");
    if let Some((before, after)) = row.split_once(" as in ") {
        row = format!("{before} shared{}", after.find(", in version").map_or("", |at| &after[at..]));
    }
    row
}

/// The line without a field of JSON that is a number.
fn without_number(line: &str, field: &str) -> String {
    let mut parts = line.split(field);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(','));
    }
    out
}
