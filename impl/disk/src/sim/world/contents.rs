//! Operations on the contents of files: reading, writing, setting the length, syncing.
use std::io;
use std::path::Path;

use super::{Inode, World};
use crate::sim::faults::{Misfortune, Tear};
use crate::sim::names::{FileId, error};

/// The longest file, in bytes. Files are in memory, and a wild offset should be an error there, not an abort.
const FILE_LENGTH_MAX: u64 = 1 << 30;

impl World {
    pub(in crate::sim) fn write_at(&mut self, file: FileId, path: &Path, buf: &[u8], offset: u64) -> io::Result<()> {
        let length = buf.len() as u64;
        let misfortune = self.begin(format_args!("write_at {} {length} bytes at {offset}", path.display()))?;
        let now = self.faults.operations();
        let whole_sectors = !self.habits.torn_sectors;
        let fitting = self.fitting(file, path, offset, length);
        let fits = fitting.as_ref().map_or(0, |fits| *fits as usize);
        let image = &mut self.inode(file).image;
        match misfortune {
            None => {
                image.write(&buf[..fits], offset, now);
                if fits as u64 == length { Ok(()) } else { Err(fitting.err().unwrap_or_else(|| storage_full(path))) }
            }
            Some(Misfortune { tear, error, power_cut, mut rng }) => {
                match tear {
                    Tear::NotAtAll => {}
                    Tear::Partly => image.write_partly(&buf[..fits], offset, now, &mut rng, whole_sectors && power_cut),
                    Tear::Wholly => image.write(&buf[..fits], offset, now),
                }
                Err(error)
            }
        }
    }

    pub(in crate::sim) fn set_len(&mut self, file: FileId, path: &Path, length: u64) -> io::Result<()> {
        let misfortune = self.begin(format_args!("set_len {} to {length}", path.display()))?;
        let now = self.faults.operations();
        let fits = self.fitting(file, path, 0, length).and_then(|fits| match fits == length {
            true => Ok(()),
            false => Err(storage_full(path)),
        });
        let image = &mut self.inode(file).image;
        match misfortune {
            None => {
                fits?;
                image.set_len(length, now);
                Ok(())
            }
            Some(Misfortune { tear, error, mut rng, .. }) => {
                match tear {
                    _ if fits.is_err() => {}
                    Tear::NotAtAll => {}
                    Tear::Partly => image.set_len_partly(length, now, &mut rng),
                    Tear::Wholly => image.set_len(length, now),
                }
                Err(error)
            }
        }
    }

    pub(in crate::sim) fn sync(&mut self, file: FileId, path: &Path) -> io::Result<()> {
        let misfortune = self.begin(format_args!("sync {}", path.display()))?;
        let forgets = self.habits.failed_sync_forgets;
        let image = &mut self.inode(file).image;
        match misfortune {
            None => {
                image.sync();
                Ok(())
            }
            Some(Misfortune { tear, error, power_cut, mut rng }) => {
                match tear {
                    Tear::NotAtAll => {}
                    Tear::Partly => image.sync_partly(&mut rng),
                    Tear::Wholly => image.sync(),
                }
                if forgets && !power_cut {
                    image.forget_unsynced();
                }
                Err(error)
            }
        }
    }

    pub(in crate::sim) fn read_at(
        &mut self,
        file: FileId,
        path: &Path,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.faults.check_power()?;
        if self.faults.read_fails() {
            return Err(error(io::ErrorKind::Other, path, "cannot be read this time: a fault of the simulated disk"));
        }
        let inode = &self.files[&file];
        let bytes = inode.image.bytes();
        let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
        let mut length = rest.len().min(buf.len());
        if self.habits.short_reads && length > 1 {
            length = 1 + self.reads.below(length as u64) as usize;
        }
        let end = offset.saturating_add(length as u64);
        if let Some(bad) = inode.bad.iter().find(|bad| length > 0 && bad.start < end && offset < bad.end) {
            let what = format!("cannot be read from {} to {}: a bad sector of the simulated disk", bad.start, bad.end);
            return Err(error(io::ErrorKind::Other, path, &what));
        }
        buf[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    pub(in crate::sim) fn len(&self, file: FileId) -> io::Result<u64> {
        self.faults.check_power()?;
        Ok(self.files[&file].image.len())
    }

    /// How many of `length` bytes at `offset` there is room for.
    fn fitting(&self, file: FileId, path: &Path, offset: u64, length: u64) -> io::Result<u64> {
        let end = offset.checked_add(length).filter(|&end| end <= FILE_LENGTH_MAX).ok_or_else(|| {
            let what = format!("would pass {FILE_LENGTH_MAX} bytes, which is as long as a simulated file can be");
            error(io::ErrorKind::FileTooLarge, path, &what)
        })?;
        let Some(capacity) = self.habits.capacity else {
            return Ok(length);
        };
        let taken = |(&file, inode): (&FileId, &Inode)| match inode.handles > 0 || self.names.has_name(file) {
            true => inode.image.len(),
            false => 0,
        };
        let free = capacity.saturating_sub(self.files.iter().map(taken).sum());
        let possible = self.files[&file].image.len() + free;
        Ok(length - end.saturating_sub(possible).min(length))
    }
}

fn storage_full(path: &Path) -> io::Error {
    error(io::ErrorKind::StorageFull, path, "does not fit on the simulated disk")
}
