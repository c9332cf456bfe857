//! `vellum commit-version` and `vellum abort-version`: end a version.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use vellum_storage::Version;
use vellum_terminal::people::printable;
use vellum_terminal::{Out, Outcome, Run};

use crate::commands::confirm::{ChangeArgs, Done};
use crate::commands::{preview, versions};
use crate::file::Database;
use crate::file::blobs::BlobArgs;
use crate::ui::changes::{self, Change, JsonChange};
use crate::ui::meta::{self, version_name};

/// End a version, and move its changes to the trunk
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum versions Data.fs                           the open versions
  vellum commit-version Data.fs draft --dry-run     what would that do?
  vellum commit-version Data.fs draft               show it, ask, and do it
  vellum commit-version Data.fs draft --to review   into another version

Each object of the version gets, on the trunk, the state that it has in the
version. The new transaction can be undone; then the changes are in the version
again.

The database is locked during the command, so stop a site that uses it.
--dry-run takes no lock, and works beside a running site.

Exit codes: 0 if it was done, or could be (--dry-run); 1 if there is nothing in
the version, or the answer was no; 2 if the command was used wrongly or could
not do its work. With any other code than 0 nothing was changed, unless the
message says otherwise.

With --json: one object.")]
pub struct CommitVersion {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The version
    version: OsString,
    /// Move the changes to this version instead of the trunk
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    to: OsString,
    #[command(flatten)]
    blobs: BlobArgs,
    #[command(flatten)]
    how: ChangeArgs,
}

/// End a version, and discard its changes
#[derive(Args)]
#[command(after_help = "\
Examples:
  vellum versions Data.fs                           the open versions
  vellum abort-version Data.fs draft --dry-run      what would that do?
  vellum abort-version Data.fs draft                show it, ask, and do it

Each object of the version gets the state again that the trunk shows; an object
that was created in the version is deleted. The new transaction can be undone
until the next pack; then the changes are in the version again.

The database is locked during the command, so stop a site that uses it.
--dry-run takes no lock, and works beside a running site.

Exit codes: 0 if it was done, or could be (--dry-run); 1 if there is nothing in
the version, or the answer was no; 2 if the command was used wrongly or could
not do its work. With any other code than 0 nothing was changed, unless the
message says otherwise.

With --json: one object.")]
pub struct AbortVersion {
    /// The database, usually called Data.fs
    file: PathBuf,
    /// The version
    version: OsString,
    #[command(flatten)]
    blobs: BlobArgs,
    #[command(flatten)]
    how: ChangeArgs,
}

/// How a version ends.
enum End {
    CommitTo(Version),
    Abort,
}

#[derive(Serialize)]
struct Answer {
    file: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_hex: Option<String>,
    /// None if it is aborted; the trunk is the empty name.
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_hex: Option<String>,
    objects: Vec<JsonChange>,
    /// Where there is nothing in it: the versions in which there is something.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<String>>,
    #[serde(flatten)]
    done: Done,
}

impl CommitVersion {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let end = End::CommitTo(named(self.to));
        self.how.all_was_shown(carry_out(out, (&self.file, &self.blobs), self.version, end, &self.how, now))
    }
}

impl AbortVersion {
    /// Carries it out.
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        self.how.all_was_shown(carry_out(out, (&self.file, &self.blobs), self.version, End::Abort, &self.how, now))
    }
}

fn named(name: OsString) -> Version {
    Version::named(name.into_encoded_bytes())
}

fn carry_out(
    out: &mut Out,
    (path, blobs): (&Path, &BlobArgs),
    version: OsString,
    end: End,
    how: &ChangeArgs,
    now: Timestamp,
) -> Run {
    let version = named(version);
    let database = how.open(path, out, Some(blobs))?;
    let mut draft = how.begin(&database, out, end.description(&version))?;
    match &end {
        End::CommitTo(to) => draft.commit_version(&version, to)?,
        End::Abort => draft.abort_version(&version)?,
    }
    let voted = database.storage().vote(draft)?;
    let changes = preview::changes(&database, &voted)?;
    if changes.is_empty() {
        return nothing_there(out, path, &database, &version, &end, how);
    }
    if how.json {
        return how.conclude_json(out, voted, |done| end.answer(path, &version, &changes, done));
    }
    let name = version_name(&version);
    let question = match &end {
        End::CommitTo(to) => {
            writeln!(out, "to commit: version {name}, to {}", place(to))?;
            format!("Commit version {name} to {}?", place(to))
        }
        End::Abort => {
            writeln!(out, "to abort: version {name}")?;
            format!("Abort version {name}, and give up what was done in it?")
        }
    };
    changes::show(out, &changes, how.objects, now)?;
    how.conclude(out, path, voted, &question, now)
}

/// Shows the versions that there are instead.
fn nothing_there(
    out: &mut Out,
    path: &Path,
    database: &Database,
    version: &Version,
    end: &End,
    how: &ChangeArgs,
) -> Run {
    let found = versions::all(database)?;
    if how.json {
        let names = found.iter().map(|found| meta::version(&found.version).0).collect();
        let answer = end.answer(path, version, &[], Done::in_transaction(None));
        out.json(&Answer { versions: Some(names), ..answer })?;
        return Ok(Outcome::Problems);
    }
    let file = printable(&path.display().to_string());
    write!(out, "Nothing was changed: in {file} there is nothing in the version {}. ", version_name(version))?;
    if found.is_empty() {
        writeln!(out, "There are no versions at all: everything is on the trunk.")?;
    } else {
        writeln!(out, "There is something in:")?;
    }
    for found in &found {
        writeln!(out, "  {}", found.summary())?;
    }
    Ok(Outcome::Problems)
}

fn place(version: &Version) -> String {
    if version.is_trunk() { "the trunk".to_owned() } else { format!("version {}", version_name(version)) }
}

impl End {
    /// The default description of the new transaction.
    fn description(&self, version: &Version) -> Vec<u8> {
        let (what, to) = match self {
            End::CommitTo(to) if to.is_trunk() => ("commit", None),
            End::CommitTo(to) => ("commit", Some(to)),
            End::Abort => ("abort", None),
        };
        let mut text = format!("{what} of version ").into_bytes();
        text.extend(version.name());
        if let Some(to) = to {
            text.extend(b" to version ");
            text.extend(to.name());
        }
        text
    }

    fn answer(&self, path: &Path, version: &Version, changes: &[Change], done: Done) -> Answer {
        let (name, version_hex) = meta::version(version);
        let (to, to_hex) = match self {
            End::CommitTo(to) => {
                let (to, to_hex) = meta::version(to);
                (Some(to), to_hex)
            }
            End::Abort => (None, None),
        };
        Answer {
            file: path.display().to_string(),
            version: name,
            version_hex,
            to,
            to_hex,
            objects: changes.iter().map(Change::json).collect(),
            versions: None,
            done,
        }
    }
}
