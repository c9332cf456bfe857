//! ZConfig's language: lines of keys and values, in sections.
//!
//! ```text
//!   # a comment is a line of its own
//!   %define INSTANCE /srv/site
//!   <zeo>
//!     address localhost:8100
//!   </zeo>
//!   %include storages.conf
//!   <mappingstorage scratch/>
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ConfError;
use super::substitute::{is_name, substitute};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from one; zero for the whole file.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}, line {line}", self.file.display()),
        }
    }
}

/// A section, or a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its type, in lower case; empty for a whole file.
    pub kind: String,
    /// Its name, in lower case.
    pub name: Option<String>,
    /// Its keys, in order.
    pub keys: Vec<Key>,
    /// The sections in it, in order.
    pub sections: Vec<Section>,
    /// Packages that were imported, in a whole file.
    pub imports: Vec<(String, Place)>,
    /// Where it begins.
    pub place: Place,
}

impl Section {
    /// Puts another value in the place of a key's, as `runzeo -X` does: `SECTION/KEY=VALUE`, where a section is named
    /// by its type or its name.
    ///
    /// # Errors
    ///
    /// There is no such section, or that is no such text.
    pub fn put(&mut self, text: &str) -> Result<(), ConfError> {
        let place = Place { file: Path::new("the command line").into(), line: 0 };
        let wrong = |why: String| ConfError { place: place.clone(), why };
        let (path, value) = text.split_once('=').ok_or_else(|| wrong(format!("{text:?} is no SECTION/KEY=VALUE")))?;
        let mut names: Vec<&str> = path.split('/').collect();
        let key = names.pop().filter(|key| !key.is_empty()).ok_or_else(|| wrong(format!("{text:?} names no key")))?;
        let mut section = self;
        for name in names {
            let name = name.to_lowercase();
            let is_it = |section: &&mut Section| section.name.as_ref() == Some(&name) || section.kind == name;
            let found = section.sections.iter_mut().find(is_it);
            section = found.ok_or_else(|| wrong(format!("there is no section {name}, for {text:?}")))?;
        }
        section.keys.retain(|other| !other.name.eq_ignore_ascii_case(key));
        section.keys.push(Key { name: key.to_owned(), value: value.to_owned(), place });
        Ok(())
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key, as it is written.
    pub name: String,
    /// The value, with everything put in that it names; empty if there is none.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// Where files and variables of the environment come from.
pub trait Source {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn read(&self, path: &Path) -> std::io::Result<String>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The files and the environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSource;

impl Source for SystemSource {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        let mut text = String::new();
        // One byte more than is taken: the reader sees that it is too long.
        std::fs::File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
        Ok(text)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Files that include each other are no deeper than this.
const INCLUDES_DEEP_MAX: usize = 16;
/// All of a configuration's files together have at most so many lines.
const LINES_MAX: usize = 100_000;

/// They have at most so many bytes, and so have all values with what they name.
const BYTES_MAX: usize = 16 << 20;
/// Sections in each other are no deeper than this.
const SECTIONS_DEEP_MAX: usize = 64;

/// Reads a configuration, with all that it includes.
///
/// # Errors
///
/// A file cannot be read; a line is none of the language; something is named that is not defined.
pub fn zconfig(path: &Path, source: &dyn Source) -> Result<Section, ConfError> {
    let mut reader = Reader { source, defines: BTreeMap::new(), imports: Vec::new(), lines: 0, bytes: 0, open: 0 };
    let place = Place { file: path.into(), line: 0 };
    let (kind, name) = (String::new(), None);
    let top = Section { kind, name, keys: Vec::new(), sections: Vec::new(), imports: Vec::new(), place: place.clone() };
    let top = reader.file(path, top, &place, 0)?;
    Ok(Section { imports: reader.imports, ..top })
}

struct Reader<'a> {
    source: &'a dyn Source,
    /// The definitions, of all files.
    defines: BTreeMap<String, String>,
    imports: Vec<(String, Place)>,
    lines: usize,
    bytes: usize,
    /// Sections that are open, in all files.
    open: usize,
}

impl Reader<'_> {
    /// Reads a file into a section. Sections that begin in a file end in it.
    fn file(&mut self, path: &Path, into: Section, asked: &Place, deep: usize) -> Result<Section, ConfError> {
        let error = |place: &Place, why: String| ConfError { place: place.clone(), why };
        if deep > INCLUDES_DEEP_MAX {
            return Err(error(
                asked,
                format!("files include each other more than {INCLUDES_DEEP_MAX} deep, or in a circle"),
            ));
        }
        let text = self.source.read(path);
        let text = text.map_err(|e| error(asked, format!("{} cannot be read: {e}", path.display())))?;
        self.count(text.len()).map_err(|why| error(asked, why))?;
        let file: Arc<Path> = path.into();
        let mut open = vec![into];
        for (n, line) in text.lines().enumerate() {
            let place = Place { file: Arc::clone(&file), line: n + 1 };
            self.lines += 1;
            if self.lines > LINES_MAX {
                return Err(error(&place, format!("the configuration has more than {LINES_MAX} lines")));
            }
            self.line(line.trim(), &mut open, &place, deep).map_err(|trouble| match trouble {
                Trouble::Here(why) => error(&place, why),
                Trouble::Elsewhere(error) => error,
            })?;
        }
        match open.pop() {
            Some(section) if open.is_empty() => Ok(section),
            Some(section) => Err(error(&section.place, format!("<{}> is never closed", section.kind))),
            None => unreachable!("a line closes only what a line opened"),
        }
    }

    /// Counts bytes that are read, or kept.
    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes += bytes;
        match self.bytes <= BYTES_MAX {
            true => Ok(()),
            false => Err(format!("the configuration has more than {BYTES_MAX} bytes")),
        }
    }

    fn line(&mut self, line: &str, open: &mut Vec<Section>, place: &Place, deep: usize) -> Result<(), Trouble> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("</") {
            let kind = rest.strip_suffix('>').ok_or("the end of a section ends with >")?.trim_end().to_lowercase();
            return match open.pop() {
                Some(section) if !open.is_empty() && section.kind == kind => {
                    self.open -= 1;
                    open.last_mut().expect("it is not empty").sections.push(section);
                    Ok(())
                }
                Some(section) if !open.is_empty() => Err(format!("</{kind}> closes <{}>", section.kind).into()),
                _ => Err(format!("</{kind}> closes nothing").into()),
            };
        }
        if let Some(rest) = line.strip_prefix('<') {
            let rest = rest.strip_suffix('>').ok_or("the beginning of a section ends with >")?;
            let (rest, is_whole) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
            let section = section(rest.trim_end(), place)?;
            match is_whole {
                true => open.last_mut().expect("a file is open").sections.push(section),
                false => {
                    self.open += 1;
                    if self.open > SECTIONS_DEEP_MAX {
                        return Err(format!("sections are in each other more than {SECTIONS_DEEP_MAX} deep").into());
                    }
                    open.push(section);
                }
            }
            return Ok(());
        }
        if let Some(directive) = line.strip_prefix('%') {
            let (name, argument) = split(directive).ok_or("no directive")?;
            return self.directive(name, argument, open, place, deep);
        }
        let (name, value) = split(line).ok_or("neither a key nor a section nor a directive")?;
        let key = Key { name: name.to_owned(), value: self.substitute(value)?, place: place.clone() };
        open.last_mut().expect("a file is open").keys.push(key);
        Ok(())
    }

    fn directive(
        &mut self,
        name: &str,
        argument: &str,
        open: &mut Vec<Section>,
        place: &Place,
        deep: usize,
    ) -> Result<(), Trouble> {
        if !["define", "include", "import"].contains(&name) {
            return Err(format!("there is no directive %{name}").into());
        }
        if argument.is_empty() {
            return Err(format!("%{name} of nothing").into());
        }
        match name {
            "define" => {
                let (name, value) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
                let (name, value) = (name.to_lowercase(), value.trim_start());
                if self.defines.get(&name).is_some_and(|defined| defined != value) {
                    return Err(format!("{name} is defined already, as something else").into());
                }
                if !is_name(&name) {
                    return Err(format!("{name} cannot be defined: a name has letters, digits and _").into());
                }
                let value = self.substitute(value)?;
                self.defines.insert(name, value);
            }
            "import" => {
                let package = self.substitute(argument)?;
                self.imports.push((package, place.clone()));
            }
            _ => {
                let named = PathBuf::from(self.substitute(argument)?);
                let path = place.file.parent().unwrap_or(Path::new("")).join(named);
                let into = open.pop().expect("a file is open");
                let read = self.file(&path, into, place, deep + 1).map_err(Trouble::Elsewhere)?;
                open.push(read);
            }
        }
        Ok(())
    }

    fn substitute(&mut self, text: &str) -> Result<String, Trouble> {
        let value = substitute(text, &self.defines, self.source)?;
        self.count(value.len())?;
        Ok(value)
    }
}

/// An error: in this line, or in one of a file that it includes.
enum Trouble {
    Here(String),
    Elsewhere(ConfError),
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble::Here(why)
    }
}

impl From<&str> for Trouble {
    fn from(why: &str) -> Trouble {
        Trouble::Here(why.to_owned())
    }
}

/// The beginning of a section: a type, and perhaps a name.
fn section(header: &str, place: &Place) -> Result<Section, Trouble> {
    let is_word = |word: &str| !word.is_empty() && !word.contains(['(', ')']);
    let mut words = header.split_whitespace();
    let (kind, name) = (words.next().unwrap_or_default(), words.next());
    let is_header = is_word(kind) && name.is_none_or(is_word) && words.next().is_none() && header.starts_with(kind);
    if !is_header {
        return Err("a section begins with <TYPE> or <TYPE NAME>".into());
    }
    Ok(Section {
        kind: kind.to_lowercase(),
        name: name.map(str::to_lowercase),
        keys: Vec::new(),
        sections: Vec::new(),
        imports: Vec::new(),
        place: place.clone(),
    })
}

/// A word, and the rest of the line. A bracket ends a word, too.
fn split(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (!word.is_empty()).then_some((word, rest.trim_start()))
}
