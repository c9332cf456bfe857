//! Operations of a tree: on directories, on modes, and files in directories that were made.
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::World;
use crate::Open;
use crate::sim::image::Image;
use crate::sim::names::{FileId, error};
use crate::tree::{About, Kind};

/// The bits that the process's mask takes away.
const MASK: u32 = 0o022;

impl World {
    pub(in crate::sim) fn check_power(&self) -> io::Result<()> {
        self.faults.check_power()
    }

    pub(in crate::sim) fn about(&self, path: &Path) -> io::Result<About> {
        self.faults.check_power()?;
        if let Some(file) = self.names.get(path) {
            let inode = &self.files[&file];
            return Ok(About { kind: Kind::File, length: inode.image.len(), mode: inode.access.mode });
        }
        if self.names.is_directory(path) {
            return Ok(About { kind: Kind::Directory, length: 0, mode: 0o777 & !MASK });
        }
        self.names.check_file_name(path)?;
        Err(error(io::ErrorKind::NotFound, path, "is not there"))
    }

    pub(in crate::sim) fn list(&self, path: &Path) -> io::Result<BTreeSet<OsString>> {
        self.check_directory(path)?;
        Ok(self.names.list(path))
    }

    /// A new file in a directory that must be there.
    pub(in crate::sim) fn create_in_tree(&mut self, path: &Path, mode: u32) -> io::Result<FileId> {
        self.check_place(path)?;
        let file = self.open(path, Open::CreateNew)?;
        self.inode(file).access.mode = mode & !MASK;
        Ok(file)
    }

    pub(in crate::sim) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.whole_or_nothing(format_args!("create_directory {}", path.display()), |world| {
            world.check_place(path)?;
            if world.names.get(path).is_some() || world.names.is_directory(path) {
                return Err(error(io::ErrorKind::AlreadyExists, path, "is there already"));
            }
            let directory = world.add_file(Image::durable(Vec::new()));
            world.names.create_directory(path.into(), directory, world.faults.operations());
            Ok(())
        })
    }

    pub(in crate::sim) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.whole_or_nothing(format_args!("remove_directory {}", path.display()), |world| {
            world.check_directory(path)?;
            if !world.names.list(path).is_empty() {
                return Err(error(io::ErrorKind::DirectoryNotEmpty, path, "is not empty"));
            }
            world.names.remove_directory(path, world.faults.operations());
            world.reclaim();
            Ok(())
        })
    }

    pub(in crate::sim) fn set_mode(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        self.whole_or_nothing(format_args!("set_mode of {} to {mode:o}", path.display()), |world| {
            let file = world.check_existing(path)?;
            world.inode(file).access.mode = mode;
            Ok(())
        })
    }
}
