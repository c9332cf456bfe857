//! Operations on names: opening, renaming, removing, locking.
//!
//! None of them can be done by halves, except the sync of a directory.
use std::fmt;
use std::io;
use std::path::Path;

use super::World;
use crate::Open;
use crate::sim::faults::{Misfortune, Tear};
use crate::sim::image::Image;
use crate::sim::names::{FileId, error};

/// The process id in lock files: always the same, so that the same seed makes the same bytes.
const PROCESS_ID: u32 = 1;

impl World {
    pub(in crate::sim) fn open(&mut self, path: &Path, how: Open) -> io::Result<FileId> {
        let file = match how {
            Open::Read | Open::ReadWrite => {
                self.faults.check_power()?;
                self.find_or_create(path, how)?
            }
            Open::CreateNew | Open::Truncate => self
                .whole_or_nothing(format_args!("open {} {how:?}", path.display()), |world| {
                    world.find_or_create(path, how)
                })?,
        };
        self.inode(file).handles += 1;
        Ok(file)
    }

    /// The same; a file that is made has the access of the one at `of`.
    pub(in crate::sim) fn open_like(&mut self, path: &Path, how: Open, of: &Path) -> io::Result<FileId> {
        let like = self.check_existing(of)?;
        let access = self.inode(like).access;
        let file = self.open(path, how)?;
        if matches!(how, Open::CreateNew | Open::Truncate) {
            self.inode(file).access = access;
        }
        Ok(file)
    }

    fn find_or_create(&mut self, path: &Path, how: Open) -> io::Result<FileId> {
        let now = self.faults.operations();
        self.names.check_file_name(path)?;
        match (how, self.names.get(path)) {
            (Open::Read | Open::ReadWrite, None) => Err(error(io::ErrorKind::NotFound, path, "is not there")),
            (Open::Read | Open::ReadWrite, Some(file)) => Ok(file),
            (Open::CreateNew, Some(_)) => Err(error(io::ErrorKind::AlreadyExists, path, "is there already")),
            (Open::CreateNew | Open::Truncate, None) => {
                let file = self.add_file(Image::durable(Vec::new()));
                self.names.create(path.into(), file, now);
                Ok(file)
            }
            (Open::Truncate, Some(file)) => {
                self.inode(file).image.set_len(0, now);
                Ok(file)
            }
        }
    }

    pub(in crate::sim) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole_or_nothing(format_args!("rename {} to {}", from.display(), to.display()), |world| {
            world.check_existing(from)?;
            world.names.check_file_name(to)?;
            world.names.rename(from, to, world.faults.operations());
            world.reclaim();
            Ok(())
        })
    }

    pub(in crate::sim) fn link(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        self.whole_or_nothing(format_args!("link {} as {}", path.display(), name.display()), |world| {
            let file = world.check_existing(path)?;
            world.names.check_file_name(name)?;
            if world.names.get(name).is_some() {
                return Err(error(io::ErrorKind::AlreadyExists, name, "is there already"));
            }
            world.names.create(name.into(), file, world.faults.operations());
            Ok(())
        })
    }

    pub(in crate::sim) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.whole_or_nothing(format_args!("remove {}", path.display()), |world| {
            world.check_existing(path)?;
            world.names.remove(path, world.faults.operations());
            world.reclaim();
            Ok(())
        })
    }

    pub(super) fn check_existing(&self, path: &Path) -> io::Result<FileId> {
        self.names.check_file_name(path)?;
        self.names.get(path).ok_or_else(|| error(io::ErrorKind::NotFound, path, "is not there"))
    }

    pub(super) fn whole_or_nothing<T>(
        &mut self,
        description: fmt::Arguments<'_>,
        operation: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.begin(description)? {
            None => operation(self),
            Some(mut misfortune) => {
                if misfortune.done() {
                    // A fault of its own does not matter any more.
                    let _ = operation(self);
                }
                Err(misfortune.error)
            }
        }
    }

    pub(in crate::sim) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let misfortune = self.begin(format_args!("sync_directory of {}", path.display()))?;
        let all = self.names.unsynced_changes(path);
        match misfortune {
            None => {
                self.names.sync_directory(path, all);
                self.reclaim();
                Ok(())
            }
            Some(Misfortune { tear, error, mut rng, .. }) => {
                let done = match tear {
                    Tear::NotAtAll => 0,
                    Tear::Partly => rng.below(all as u64 + 1) as usize,
                    Tear::Wholly => all,
                };
                self.names.sync_directory(path, done);
                Err(error)
            }
        }
    }

    pub(in crate::sim) fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.find(path)?.is_some())
    }

    /// The file of this name.
    pub(in crate::sim) fn find(&self, path: &Path) -> io::Result<Option<FileId>> {
        self.faults.check_power()?;
        Ok(self.names.get(path))
    }

    pub(in crate::sim) fn scratch(&mut self) -> io::Result<FileId> {
        self.faults.check_power()?;
        let file = self.add_file(Image::nameless());
        self.inode(file).handles += 1;
        Ok(file)
    }

    pub(in crate::sim) fn lock(&mut self, path: &Path) -> io::Result<FileId> {
        self.faults.check_power()?;
        self.names.check_file_name(path)?;
        let now = self.faults.operations();
        let file = match self.names.get(path) {
            Some(file) => file,
            None => self.find_or_create(path, Open::CreateNew)?,
        };
        if !self.locks.insert(file) {
            let content = String::from_utf8_lossy(self.files[&file].image.bytes()).into_owned();
            return Err(crate::real::held(path, content.trim()));
        }
        self.note(format_args!("     lock {}", path.display()));
        let content = format!(" {PROCESS_ID}\n");
        let inode = self.inode(file);
        inode.handles += 1;
        inode.image.write(content.as_bytes(), 0, now);
        inode.image.set_len(content.len() as u64, now);
        Ok(file)
    }

    /// The same; a lock file that is made has the access of the file at `of`.
    pub(in crate::sim) fn lock_like(&mut self, path: &Path, of: &Path) -> io::Result<FileId> {
        let (like, was_there) = (self.access(of), self.names.get(path).is_some());
        let file = self.lock(path)?;
        if let (Some(access), false) = (like, was_there) {
            self.inode(file).access = access;
        }
        Ok(file)
    }

    pub(in crate::sim) fn unlock(&mut self, file: FileId) {
        assert!(self.locks.remove(&file), "a lock is given back once");
        self.close(file);
    }
}
