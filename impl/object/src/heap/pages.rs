//! A list that grows without being moved.

/// Entries in a page.
const PAGE: usize = 1 << 12;

/// A vector that grows a page at a time, so that no more than a page of it is unused. A `Vec` that doubles would leave
/// up to half of its memory unused, and a ghost has 16 bytes in all.
#[derive(Debug, Default)]
pub(crate) struct Pages<T> {
    pages: Vec<Box<[T]>>,
    length: u32,
}

impl<T: Copy + Default> Pages<T> {
    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    pub(crate) fn push(&mut self, value: T) {
        let at = self.length as usize;
        if at == self.pages.len() * PAGE {
            self.pages.push(vec![T::default(); PAGE].into_boxed_slice());
        }
        self.length += 1;
        self.pages[at / PAGE][at % PAGE] = value;
    }

    pub(crate) fn at(&self, at: u32) -> &T {
        &self.pages[at as usize / PAGE][at as usize % PAGE]
    }

    pub(crate) fn at_mut(&mut self, at: u32) -> &mut T {
        &mut self.pages[at as usize / PAGE][at as usize % PAGE]
    }
}
