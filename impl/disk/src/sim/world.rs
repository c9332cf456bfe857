//! The state behind all handles of one simulated disk, and each operation on it.
//!
//! Every operation goes the same way: it begins, by which it gets its number and learns of the misfortune that a test
//! planned for it; it is checked as the operating system would check it; it is done, or what misfortune leaves of it;
//! and if there was one, the caller gets its error. Operations on names are in [`directories`], those on bytes in
//! [`contents`]; here is what they share, and what a test asks for past all of it.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::Access;
use super::fate::Crash;
use super::faults::{Faults, Misfortune};
use super::image::Image;
use super::names::{FileId, Names};
use super::rng::Rng;

mod contents;
mod directories;
mod folders;

/// The kind of disk. Outlives crashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Bytes in all files together.
    pub(super) capacity: Option<u64>,
    pub(super) short_reads: bool,
    pub(super) torn_sectors: bool,
    pub(super) failed_sync_forgets: bool,
    /// How many lines of the trace are kept.
    pub(super) trace_lines: usize,
}

/// A file, with or without a name.
#[derive(Debug)]
struct Inode {
    image: Image,
    /// How many handles are open.
    handles: u32,
    /// Bytes that cannot be read.
    bad: Vec<Range<u64>>,
    access: Access,
}

impl Inode {
    fn new(image: Image) -> Self {
        Inode { image, handles: 0, bad: Vec::new(), access: Access::USUAL }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) habits: Habits,
    pub(super) faults: Faults,
    files: BTreeMap<FileId, Inode>,
    next_file: u64,
    names: Names,
    /// Files that are locked.
    locks: BTreeSet<FileId>,
    /// Chance for reads has a stream of its own, so that a look at the disk changes nothing else.
    reads: Rng,
    /// A crash does not start it again: no secret comes twice.
    secrets: Rng,
    trace: VecDeque<String>,
}

impl World {
    pub(super) fn new(seed: u64, habits: Habits) -> Self {
        World {
            habits,
            faults: Faults::new(seed),
            files: BTreeMap::new(),
            next_file: 0,
            names: Names::default(),
            locks: BTreeSet::new(),
            reads: Rng::stream(seed, u64::MAX),
            secrets: Rng::stream(seed, u64::MAX - 1),
            trace: VecDeque::new(),
        }
    }

    /// A disk with the remains of this one.
    pub(super) fn after(&self, mut crash: Crash, seed: u64) -> World {
        let mut world = World::new(seed, self.habits);
        let names = self.names.after(&mut crash);
        let files: BTreeSet<FileId> = names.values().map(|entry| entry.file).collect();
        for file in files {
            let inode = &self.files[&file];
            crash.next_file();
            let bytes = inode.image.after(&mut crash);
            let image = Image::durable(bytes);
            let survivor = Inode { bad: inode.bad.clone(), access: inode.access, ..Inode::new(image) };
            world.files.insert(file, survivor);
        }
        world.next_file = self.next_file;
        world.secrets = self.secrets.clone();
        world.names = Names::durable(names, self.names.directories().clone());
        world
    }

    /// The next 32 bytes that nobody can guess.
    pub(super) fn secret(&mut self) -> [u8; 32] {
        let mut secret = [0; 32];
        secret.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.secrets.next().to_be_bytes()));
        secret
    }

    /// A crash at this moment, whose outcome `seed` determines.
    pub(super) fn random_crash(&self, seed: u64) -> Crash {
        let now = self.faults.operations();
        let files = self.files.values().filter_map(|inode| inode.image.oldest_unsynced());
        let oldest = files.chain(self.names.oldest_unsynced()).min().unwrap_or(now);
        Crash::random(seed, oldest, now, self.habits.torn_sectors)
    }

    pub(super) fn close(&mut self, file: FileId) {
        let inode = self.inode(file);
        inode.handles -= 1;
        if inode.handles == 0 {
            self.reclaim();
        }
    }

    // Access for tests, whether or not the power is on.

    pub(super) fn write_file(&mut self, path: &Path, bytes: &[u8]) {
        if let Err(error) = self.names.check_file_name(path) {
            panic!("a test wants to write a file where none can be: {error}");
        }
        match self.names.get(path) {
            Some(file) => self.inode(file).image = Image::durable(bytes.to_vec()),
            None => {
                let file = self.add_file(Image::durable(bytes.to_vec()));
                self.names.create(path.into(), file, self.faults.operations());
            }
        }
        self.names.sync_name(path);
        self.reclaim();
    }

    pub(super) fn read_file(&self, path: &Path) -> Option<&[u8]> {
        self.names.get(path).map(|file| self.files[&file].image.bytes())
    }

    pub(super) fn access(&self, path: &Path) -> Option<Access> {
        self.names.get(path).map(|file| self.files[&file].access)
    }

    pub(super) fn set_access(&mut self, path: &Path, access: Access) {
        let Some(file) = self.names.get(path) else {
            panic!("a test wants to say who may use {}, which is not there", path.display());
        };
        self.inode(file).access = access;
    }

    pub(super) fn is_durable(&self, path: &Path) -> bool {
        let content = self.names.get(path).is_none_or(|file| self.files[&file].image.is_durable());
        content && self.names.is_durable(path)
    }

    pub(super) fn add_bad_range(&mut self, path: &Path, range: Range<u64>) {
        let Some(file) = self.names.get(path) else {
            panic!("a test wants a bad sector in {}, which is not there", path.display());
        };
        self.inode(file).bad.push(range);
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    pub(super) fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter()
    }

    // Helpers.

    fn begin(&mut self, description: fmt::Arguments<'_>) -> io::Result<Option<Misfortune>> {
        let operation = self.faults.operations();
        let misfortune = self.faults.begin()?;
        match &misfortune {
            None => self.note(format_args!("{operation:>4} {description}")),
            Some(m) => self.note(format_args!("{operation:>4} {description}: done {:?}: {}", m.tear, m.error)),
        }
        Ok(misfortune)
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        if self.habits.trace_lines > 0 {
            while self.trace.len() >= self.habits.trace_lines {
                self.trace.pop_front();
            }
            self.trace.push_back(line.to_string());
        }
    }

    fn inode(&mut self, file: FileId) -> &mut Inode {
        self.files.get_mut(&file).expect("a file stays as long as it has a handle or a name")
    }

    fn add_file(&mut self, image: Image) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.files.insert(file, Inode::new(image));
        file
    }

    /// Releases files that no name or handle leads to any more, not even after a crash.
    fn reclaim(&mut self) {
        let names = &self.names;
        self.files.retain(|&file, inode| inode.handles > 0 || names.mention(file));
    }
}
