//! Operations on a file that are done by halves.
use super::image::{Image, SECTOR};
use super::rng::Rng;

impl Image {
    /// Writes the beginning of `buf`, or any pieces of it that end with a sector. With `whole_sectors`, the beginning
    /// ends with a sector as well.
    pub(super) fn write_partly(&mut self, buf: &[u8], offset: u64, now: u64, rng: &mut Rng, whole_sectors: bool) {
        if rng.coin() {
            let mut length = rng.below(buf.len() as u64 + 1);
            if whole_sectors && length < buf.len() as u64 {
                length = ((offset + length) / SECTOR as u64 * SECTOR as u64).saturating_sub(offset);
            }
            self.write(&buf[..length as usize], offset, now);
            return;
        }
        let mut start = 0;
        while start < buf.len() {
            let position = offset + start as u64;
            let end = buf.len().min(start + SECTOR - (position % SECTOR as u64) as usize);
            if rng.coin() {
                self.write(&buf[start..end], position, now);
            }
            start = end;
        }
    }

    /// Sets a length on the way from the present one to `length`, either end included.
    pub(super) fn set_len_partly(&mut self, length: u64, now: u64, rng: &mut Rng) {
        let (low, high) = (length.min(self.len()), length.max(self.len()));
        self.set_len(low + rng.below(high - low + 1), now);
    }

    /// Makes some of the sectors durable, and perhaps the length.
    pub(super) fn sync_partly(&mut self, rng: &mut Rng) {
        self.sync_sectors(|| rng.coin());
        if rng.coin() {
            self.sync_length();
        }
    }
}
