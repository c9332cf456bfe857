//! Files that are named on the command line, beside the database.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use vellum_disk::take_after;
use vellum_terminal::{Failure, Run};

/// Whether two paths name one file: by a link, or by a second name. A missing file is not the same as any other.
pub fn same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// A new file that appears under its name when it is complete. Until then it has a temporary name beside it.
pub struct NewFile {
    path: PathBuf,
    replaces: bool,
    to: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins a file at `path`. An existing file is replaced with `force`, but never the database `file`.
    pub fn at(path: &Path, force: bool, file: &Path) -> Run<NewFile> {
        let told = |what: &str| Failure::Message(format!("{}: {what}", path.display()));
        let mut path_then = path.to_owned();
        match fs::metadata(path) {
            Ok(_) if same(path, file) => return Err(told("this is the database itself: name another file")),
            Ok(there) if !there.is_file() => return Err(told("there is something that is no file: name another one")),
            Ok(_) if !force => {
                return Err(told("there is a file already, and it is left as it is: name another one, or add --force"));
            }
            // A link stays a link.
            Ok(_) => path_then = fs::canonicalize(path).map_err(|e| told(&e.to_string()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(told(&e.to_string())),
        }
        let folder = match path_then.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Readable for the same people as the database.
        let made = fs::metadata(file).and_then(|like| {
            let made = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
            take_after(made.as_file(), &like)?;
            Ok(made)
        });
        let made = made.map_err(|e| told(&format!("making the file: {e}")))?;
        Ok(NewFile { path: path_then, replaces: force, to: BufWriter::new(made) })
    }

    /// Syncs the file, and gives it its name.
    pub fn finish(self) -> io::Result<()> {
        let made = self.to.into_inner().map_err(|e| e.into_error())?;
        made.as_file().sync_all()?;
        match self.replaces {
            true => made.persist(&self.path),
            false => made.persist_noclobber(&self.path),
        }?;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Opens a file for reading. Returns its length, too.
pub fn open(path: &Path) -> Run<(File, u64)> {
    let told = |e: io::Error| Failure::Message(format!("{}: {e}", path.display()));
    let file = File::open(path).map_err(told)?;
    let there = file.metadata().map_err(told)?;
    match there.is_dir() {
        true => Err(Failure::Message(format!("{}: this is a directory; name a file", path.display()))),
        false => Ok((file, there.len())),
    }
}
