//! Giving back the room of a file that a pack has replaced.
//!
//! A file without a name is still there for its readers, and its room is free when the last of them is done. The system
//! then frees all of it in one go, and every sync of another file waits for that. So this last handle has the file
//! shortened step by step ([`DiskFile::give_back`]) before it is closed, on a thread of its own: the last reader may be
//! any thread that loads an object, and is not to wait for that.

use std::sync::Arc;

use vellum_disk::DiskFile;
use vellum_sync::atomic::{AtomicBool, Ordering};
use vellum_sync::thread;

/// The last handle of a file: the last field of its owner, so that it is dropped behind the others.
#[derive(Debug)]
pub(crate) struct Room {
    /// Taken when it is dropped.
    file: Option<Arc<dyn DiskFile>>,
    is_replaced: AtomicBool,
}

impl Room {
    pub fn of(file: Arc<dyn DiskFile>) -> Room {
        Room { file: Some(file), is_replaced: AtomicBool::new(false) }
    }

    /// No opening will find this file any more: its space may be freed when its readers are done. Only when it is
    /// certain that no crash brings its name back.
    pub fn mark_replaced(&self) {
        self.is_replaced.store(true, Ordering::Release);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(mut file) = self.file.take().filter(|_| self.is_replaced.load(Ordering::Acquire)) else { return };
        // A walk over transactions has a handle of the file only. It closes it last, and the system frees the room.
        if Arc::get_mut(&mut file).is_none() {
            return;
        }
        // Where there can be no thread, the file is closed here.
        let _ = thread::Builder::new().name("vellum-room".to_owned()).spawn(move || {
            if let Some(file) = Arc::get_mut(&mut file) {
                file.give_back();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Says when it is given back.
    #[derive(Debug)]
    struct Told(Sender<()>);

    impl DiskFile for Told {
        fn read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn write_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn give_back(&mut self) {
            let _ = self.0.send(());
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_replaced_file_is_given_back_when_its_last_handle_goes() {
        let (told, hears) = channel();
        let file: Arc<dyn DiskFile> = Arc::new(Told(told));
        let room = Room::of(Arc::clone(&file));
        room.mark_replaced();
        drop(file);
        assert!(hears.try_recv().is_err());
        drop(room);
        assert_eq!(hears.recv_timeout(LONG), Ok(()));
    }

    #[test]
    fn a_file_in_use_and_one_that_keeps_its_place_are_only_closed() {
        for (is_replaced, is_read) in [(true, true), (false, false), (false, true)] {
            let (told, hears) = channel();
            let file: Arc<dyn DiskFile> = Arc::new(Told(told));
            let reader = is_read.then(|| Arc::clone(&file));
            let room = Room::of(file);
            if is_replaced {
                room.mark_replaced();
            }
            drop(room);
            drop(reader);
            // The sender went with the file.
            assert_eq!(hears.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        }
    }
}
