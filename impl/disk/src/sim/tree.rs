//! A folder of a simulated disk, and the operations on it.
//!
//! Here a folder has to be made before anything is in it, as on a real disk, and it is a name like others: a crash may
//! take it away, and with it all that was in it.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::error;
use super::world::World;
use super::{SimDisk, plain};
use crate::DiskFile;
use crate::tree::{About, Kind, Listing, Tree, check_inside};

/// A folder of a simulated disk.
#[derive(Debug)]
pub(super) struct SimTree {
    disk: SimDisk,
    root: PathBuf,
}

impl SimTree {
    pub(super) fn open(disk: &SimDisk, root: &Path) -> io::Result<SimTree> {
        let root = plain(root);
        disk.world().check_directory(root)?;
        Ok(SimTree { disk: disk.clone(), root: root.to_owned() })
    }

    /// Where that is on the disk.
    fn path(&self, path: &Path) -> io::Result<PathBuf> {
        check_inside(path)?;
        // Joined with nothing, it would end with a slash.
        Ok(if path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(path) })
    }
}

impl Tree for SimTree {
    fn read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(path)?;
        let file = self.disk.world().open(&path, crate::Open::Read)?;
        Ok(self.disk.handle(file, &path, false))
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(path)?;
        let file = self.disk.world().create_in_tree(&path, mode)?;
        Ok(self.disk.handle(file, &path, true))
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        let path = self.path(path)?;
        self.disk.world().about(&path)
    }

    fn list(&self, path: &Path) -> io::Result<Listing> {
        let path = self.path(path)?;
        let names = self.disk.world().list(&path)?;
        Ok(Box::new(names.into_iter().map(Ok)))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = self.path(path)?;
        self.disk.world().create_directory(&path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let path = self.path(path)?;
        self.disk.world().remove_directory(&path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        let mut world = self.disk.world();
        world.check_place(&to)?;
        world.rename(&from, &to)
    }

    fn link(&self, path: &Path, name: &Path) -> io::Result<()> {
        let (path, name) = (self.path(path)?, self.path(name)?);
        let mut world = self.disk.world();
        world.check_place(&name)?;
        world.link(&path, &name)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = self.path(path)?;
        self.disk.world().remove(&path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let path = self.path(path)?;
        self.disk.world().set_mode(&path, mode)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let path = self.path(path)?;
        let mut world = self.disk.world();
        world.check_directory(&path)?;
        // A disk is told a name in it, and any will do.
        world.sync_directory(&path.join("any"))
    }
}

impl World {
    /// Fails unless there is a folder.
    pub(super) fn check_directory(&self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        match self.about(path)?.kind {
            Kind::Directory => Ok(()),
            _ => Err(error(io::ErrorKind::NotADirectory, path, "is a file, not a directory")),
        }
    }

    /// Fails unless there is a folder for something with that name.
    pub(super) fn check_place(&self, path: &Path) -> io::Result<()> {
        self.check_directory(path.parent().unwrap_or(path))
    }
}
