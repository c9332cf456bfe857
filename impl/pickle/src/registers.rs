//! The machine's registers: its stack, the marks on it, and the memo.

use crate::error::Problem;
use crate::input::Step;
use crate::memo::Memo;

/// A machine's registers, kept from record to record for their memory.
#[derive(Debug)]
pub(crate) struct Registers<T> {
    stack: Vec<T>,
    /// For each MARK, how many values were below it.
    marks: Vec<usize>,
    /// The last of the marks: nothing below it may be taken.
    fence: usize,
    memo: Memo<T>,
    /// The length of the input, which bounds the memo.
    input_length: usize,
}

impl<T: Copy> Registers<T> {
    pub(crate) fn new() -> Self {
        Registers { stack: Vec::new(), marks: Vec::new(), fence: 0, memo: Memo::new(), input_length: 0 }
    }

    /// Empties everything, for a new input.
    pub(crate) fn start_input(&mut self, input_length: usize) {
        self.memo.clear();
        self.input_length = input_length;
        self.start_pickle();
    }

    /// Empties the stack, for the next pickle of the same input.
    pub(crate) fn start_pickle(&mut self) {
        self.stack.clear();
        self.marks.clear();
        self.fence = 0;
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        self.stack.push(item);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Step<T> {
        if self.stack.len() <= self.fence {
            return Err(Problem::EmptyStack);
        }
        self.stack.pop().ok_or(Problem::EmptyStack)
    }

    #[inline]
    pub(crate) fn top(&self) -> Step<T> {
        if self.stack.len() <= self.fence {
            return Err(Problem::EmptyStack);
        }
        self.stack.last().copied().ok_or(Problem::EmptyStack)
    }

    /// Where the topmost `count` values start.
    #[inline]
    pub(crate) fn below(&self, count: usize) -> Step<usize> {
        let start = self.stack.len().checked_sub(count).ok_or(Problem::EmptyStack)?;
        if start < self.fence { Err(Problem::EmptyStack) } else { Ok(start) }
    }

    /// The values from `start` on.
    #[inline]
    pub(crate) fn above(&self, start: usize) -> &[T] {
        &self.stack[start..]
    }

    /// The value right below `start`, unless a MARK is between them.
    #[inline]
    pub(crate) fn target(&self, start: usize) -> Step<T> {
        if start <= self.fence { Err(Problem::EmptyStack) } else { Ok(self.stack[start - 1]) }
    }

    /// Takes the values from `start` on away.
    #[inline]
    pub(crate) fn truncate(&mut self, start: usize) {
        self.stack.truncate(start);
    }

    #[inline]
    pub(crate) fn mark(&mut self) {
        self.fence = self.stack.len();
        self.marks.push(self.fence);
    }

    /// Is there nothing above the last MARK?
    pub(crate) fn at_mark(&self) -> bool {
        self.marks.last() == Some(&self.stack.len())
    }

    /// Takes the last MARK away, and says where the values above it start.
    #[inline]
    pub(crate) fn unmark(&mut self) -> Step<usize> {
        let start = self.marks.pop().ok_or(Problem::NoMark)?;
        self.fence = self.marks.last().copied().unwrap_or(0);
        Ok(start)
    }

    /// Keeps the top of the stack in the memo.
    #[inline]
    pub(crate) fn put(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        self.memo.put(key, top, self.input_length);
        Ok(())
    }

    /// Keeps the top of the stack in the memo, under the next number.
    #[inline]
    pub(crate) fn memoize(&mut self) -> Step<()> {
        let top = self.top()?;
        self.memo.memoize(top, self.input_length);
        Ok(())
    }

    /// Pushes what the memo has.
    #[inline]
    pub(crate) fn get(&mut self, key: u64) -> Step<()> {
        let item = self.memo.get(key).ok_or(Problem::NotInMemo(key))?;
        self.push(item);
        Ok(())
    }
}
