//! The pickle machine: one loop that carries out every opcode, for whoever wants something built from it.
//!
//! A pickle is a program for a machine with a stack, a stack of marks and a memo. What the program's values *are* is
//! the business of a [`Builder`]: the scanner's are small tokens that remember just enough to recognise a reference,
//! the tree's are nodes of an arena. So there is one place that knows what TUPLE2 takes off the stack, and each
//! builder's copy of this loop is compiled for its own item.
//!
//! The loop does not recurse, it allocates nothing that the input's length does not justify, and it never runs
//! anything: a GLOBAL is two strings.
//!
//! Python's own machine is lenient here and there, and so is this one: a POP may take a MARK, a stack need not be empty
//! at STOP, a PROTO may come twice, frames need not end where opcodes end.

use crate::error::{PickleError, Problem};
use crate::memo::Memo;
use crate::opcode::{self as op};
use crate::strings::{Kind, Span};

/// A value that an opcode and its argument give, without looking at the stack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Atom {
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian, two's complement.
    Long(Span),
    /// Decimal digits that did not fit 64 bits.
    Digits(Span),
    Float(f64),
    Str(Kind, Span),
    ByteArray(Span),
    /// A buffer that travels beside the pickle.
    Buffer,
    /// A class, by its number in Python's extension registry.
    Extension(u32),
    /// A class or function, by its module and name.
    Global(Span, Span),
}

/// What is made of a pickle's values.
pub(crate) trait Builder {
    /// A value on the stack.
    type Item: Copy;

    fn atom(&mut self, atom: Atom) -> Self::Item;
    fn tuple(&mut self, items: &[Self::Item]) -> Self::Item;
    fn list(&mut self, items: &[Self::Item]) -> Self::Item;
    /// Keys and values alternate; there is a value for each key. So also in `set_items`.
    fn dict(&mut self, items: &[Self::Item]) -> Self::Item;
    fn set(&mut self) -> Self::Item;
    fn frozen_set(&mut self, items: &[Self::Item]) -> Self::Item;
    fn append(&mut self, target: Self::Item, items: &[Self::Item]);
    fn set_items(&mut self, target: Self::Item, items: &[Self::Item]);
    fn add_items(&mut self, target: Self::Item, items: &[Self::Item]);
    fn stack_global(&mut self, module: Self::Item, name: Self::Item) -> Self::Item;
    fn call(&mut self, callable: Self::Item, arguments: Self::Item) -> Self::Item;
    fn new_object(&mut self, class: Self::Item, arguments: Self::Item, keywords: Option<Self::Item>) -> Self::Item;
    fn instance(&mut self, class: Self::Item, arguments: &[Self::Item]) -> Self::Item;
    fn build(&mut self, target: Self::Item, state: Self::Item);
    /// A persistent id was met at offset `at`.
    fn persistent(&mut self, at: usize, id: Self::Item) -> Self::Item;
    /// A persistent id was met at offset `at`, written as a line of text.
    fn persistent_line(&mut self, at: usize, line: Span) -> Self::Item;
}

/// The machine's stack, marks and memo, kept from record to record for their memory.
#[derive(Debug)]
pub(crate) struct Registers<T> {
    stack: Vec<T>,
    marks: Vec<usize>,
    memo: Memo<T>,
}

impl<T: Copy> Registers<T> {
    pub(crate) fn new() -> Self {
        Registers {
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
    }
}

/// A machine at a position in an input.
pub(crate) struct Machine<'a, 'r, B: Builder> {
    input: &'a [u8],
    position: usize,
    /// Where the values after the last MARK start: nothing below may be taken.
    fence: usize,
    registers: &'r mut Registers<B::Item>,
    pub(crate) builder: B,
}

/// `Err` without its place; [`Machine::load`] knows the place.
type Step<T> = Result<T, Problem>;

impl<'a, 'r, B: Builder> Machine<'a, 'r, B> {
    /// A machine at the start of `input`, of which it sees at most 4 GiB.
    pub(crate) fn new(input: &'a [u8], registers: &'r mut Registers<B::Item>, builder: B) -> Self {
        registers.clear();
        let input = &input[..input.len().min(u32::MAX as usize)];
        Machine {
            input,
            position: 0,
            fence: 0,
            registers,
            builder,
        }
    }

    /// How far the machine has read.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Reads one pickle, up to its STOP, and gives its value. The memo stays for the next pickle: the second pickle of
    /// a record may use what the first one put there.
    pub(crate) fn load(&mut self) -> Result<B::Item, PickleError> {
        self.registers.stack.clear();
        self.registers.marks.clear();
        self.fence = 0;
        loop {
            let at = self.position;
            let Some(&code) = self.input.get(at) else {
                return Err(PickleError {
                    offset: at,
                    opcode: None,
                    problem: Problem::NoStop,
                });
            };
            self.position = at + 1;
            match self.step(at, code) {
                Ok(None) => {}
                Ok(Some(item)) => return Ok(item),
                Err(problem) => {
                    return Err(PickleError {
                        offset: at,
                        opcode: Some(code),
                        problem,
                    });
                }
            }
        }
    }

    /// Carries out one opcode. STOP answers with the pickle's value.
    #[inline(always)]
    fn step(&mut self, at: usize, code: u8) -> Step<Option<B::Item>> {
        match code {
            op::BININT1 | op::BININT2 | op::BININT | op::NONE | op::NEWTRUE | op::NEWFALSE | op::BINFLOAT => {
                self.scalar(code)?;
            }
            op::SHORT_BINUNICODE => self.short_string(Kind::Text)?,
            op::SHORT_BINBYTES => self.short_string(Kind::Bytes)?,
            op::SHORT_BINSTRING => self.short_string(Kind::Native)?,
            op::BINUNICODE => self.string(Kind::Text)?,
            op::BINBYTES => self.string(Kind::Bytes)?,
            op::BINPUT => {
                let key = u64::from(self.byte()?);
                self.put(key)?;
            }
            op::BINGET => {
                let key = u64::from(self.byte()?);
                self.get(key)?;
            }
            op::MEMOIZE => {
                let top = self.top()?;
                self.registers.memo.memoize(top, self.input.len());
            }
            op::MARK => {
                self.fence = self.registers.stack.len();
                self.registers.marks.push(self.fence);
            }
            op::TUPLE1 => self.small_tuple(1)?,
            op::TUPLE2 => self.small_tuple(2)?,
            op::TUPLE3 => self.small_tuple(3)?,
            op::TUPLE => self.collect(|builder, items| Ok(builder.tuple(items)))?,
            op::BINPERSID => {
                let id = self.pop()?;
                let item = self.builder.persistent(at, id);
                self.push(item);
            }
            op::STOP => return self.pop().map(Some),
            op::INT | op::LONG | op::FLOAT | op::LONG1 | op::LONG4 => self.number(code)?,
            op::STRING | op::UNICODE | op::BINSTRING | op::BINUNICODE8 | op::BINBYTES8 | op::BYTEARRAY8 => {
                self.rare_string(code)?;
            }
            op::EMPTY_TUPLE | op::EMPTY_LIST | op::EMPTY_DICT | op::EMPTY_SET => self.empty(code),
            op::LIST | op::DICT | op::FROZENSET => self.marked(code)?,
            op::APPEND | op::APPENDS | op::SETITEM | op::SETITEMS | op::ADDITEMS => self.fill(code)?,
            op::POP | op::DUP | op::POP_MARK => self.shuffle(code)?,
            op::GET | op::LONG_BINGET | op::PUT | op::LONG_BINPUT => self.rare_memo(code)?,
            op::GLOBAL | op::STACK_GLOBAL | op::EXT1 | op::EXT2 | op::EXT4 => self.global(code)?,
            op::REDUCE | op::BUILD | op::NEWOBJ | op::NEWOBJ_EX | op::INST | op::OBJ => self.object(code)?,
            op::PERSID => {
                let line = self.line()?;
                let item = self.builder.persistent_line(at, line);
                self.push(item);
            }
            op::NEXT_BUFFER => self.atom(Atom::Buffer),
            op::READONLY_BUFFER => _ = self.top()?,
            op::PROTO => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(Problem::Protocol(protocol));
                }
            }
            // A frame says how much to read ahead. All the input is here already: only a length beyond it matters.
            op::FRAME => {
                let length = u64::from_le_bytes(self.fixed()?);
                self.fits(length)?;
            }
            _ => return Err(Problem::UnknownOpcode),
        }
        Ok(None)
    }

    // Values.

    #[inline]
    fn scalar(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::BININT1 => Atom::Int(i64::from(self.byte()?)),
            op::BININT2 => Atom::Int(i64::from(u16::from_le_bytes(self.fixed()?))),
            op::BININT => Atom::Int(i64::from(i32::from_le_bytes(self.fixed()?))),
            op::BINFLOAT => Atom::Float(f64::from_be_bytes(self.fixed()?)),
            op::NEWTRUE => Atom::Bool(true),
            op::NEWFALSE => Atom::Bool(false),
            _ => Atom::None,
        };
        self.atom(atom);
        Ok(())
    }

    /// The numbers of protocol 0, which are lines of text, and the long ones.
    #[inline(never)]
    fn number(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::LONG1 => {
                let length = u64::from(self.byte()?);
                self.long(length)?
            }
            op::LONG4 => {
                let length = self.length()?;
                self.long(length)?
            }
            op::FLOAT => {
                let line = self.line()?.of(self.input).trim_ascii();
                let text = std::str::from_utf8(line).map_err(|_| Problem::NotANumber)?;
                Atom::Float(text.parse().map_err(|_| Problem::NotANumber)?)
            }
            _ => {
                let line = self.line()?;
                match (code, line.of(self.input)) {
                    // Protocol 0 had no opcode for truth, and wrote it as a number with a needless zero.
                    (op::INT, b"00") => Atom::Bool(false),
                    (op::INT, b"01") => Atom::Bool(true),
                    _ => self.decimal(line)?,
                }
            }
        };
        self.atom(atom);
        Ok(())
    }

    fn long(&mut self, length: u64) -> Step<Atom> {
        let span = self.span(length)?;
        let bytes = span.of(self.input);
        Ok(if bytes.len() <= 8 {
            Atom::Int(small_int(bytes))
        } else {
            Atom::Long(span)
        })
    }

    /// A whole number as text, perhaps with Python 2's `L` at its end.
    fn decimal(&self, line: Span) -> Step<Atom> {
        let raw = line.of(self.input);
        let text = raw.trim_ascii();
        let text = text.strip_suffix(b"L").unwrap_or(text);
        let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Problem::NotANumber);
        }
        // Nineteen digits and a sign are the most that 64 bits can hold, so longer ones need not be looked at.
        let small = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.len() <= 20)
            .and_then(|text| text.parse().ok());
        let start = line.start() + raw.len() - raw.trim_ascii_start().len();
        Ok(small.map_or(Atom::Digits(Span::new(start, start + text.len())), Atom::Int))
    }

    #[inline]
    fn short_string(&mut self, kind: Kind) -> Step<()> {
        let length = u64::from(self.byte()?);
        let span = self.span(length)?;
        self.atom(Atom::Str(kind, span));
        Ok(())
    }

    #[inline]
    fn string(&mut self, kind: Kind) -> Step<()> {
        let length = u64::from(u32::from_le_bytes(self.fixed()?));
        let span = self.span(length)?;
        self.atom(Atom::Str(kind, span));
        Ok(())
    }

    #[inline(never)]
    fn rare_string(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::STRING => Atom::Str(Kind::NativeLine, self.line()?),
            op::UNICODE => Atom::Str(Kind::TextLine, self.line()?),
            op::BINSTRING => {
                let length = self.length()?;
                Atom::Str(Kind::Native, self.span(length)?)
            }
            _ => {
                let length = u64::from_le_bytes(self.fixed()?);
                let span = self.span(length)?;
                match code {
                    op::BINUNICODE8 => Atom::Str(Kind::Text, span),
                    op::BINBYTES8 => Atom::Str(Kind::Bytes, span),
                    _ => Atom::ByteArray(span),
                }
            }
        };
        self.atom(atom);
        Ok(())
    }

    // Containers.

    #[inline]
    fn small_tuple(&mut self, count: usize) -> Step<()> {
        let start = self.below(count)?;
        let item = self.builder.tuple(&self.registers.stack[start..]);
        self.registers.stack.truncate(start);
        self.push(item);
        Ok(())
    }

    #[inline(never)]
    fn empty(&mut self, code: u8) {
        let item = match code {
            op::EMPTY_TUPLE => self.builder.tuple(&[]),
            op::EMPTY_LIST => self.builder.list(&[]),
            op::EMPTY_DICT => self.builder.dict(&[]),
            _ => self.builder.set(),
        };
        self.push(item);
    }

    #[inline(never)]
    fn marked(&mut self, code: u8) -> Step<()> {
        self.collect(|builder, items| match code {
            op::LIST => Ok(builder.list(items)),
            op::FROZENSET => Ok(builder.frozen_set(items)),
            _ => Ok(builder.dict(in_pairs(items)?)),
        })
    }

    /// Replaces everything since the last MARK by what `make` makes of it.
    #[inline]
    fn collect(&mut self, make: impl FnOnce(&mut B, &[B::Item]) -> Step<B::Item>) -> Step<()> {
        let start = self.unmark()?;
        let item = make(&mut self.builder, &self.registers.stack[start..])?;
        self.registers.stack.truncate(start);
        self.push(item);
        Ok(())
    }

    fn fill(&mut self, code: u8) -> Step<()> {
        let start = match code {
            op::APPEND => self.below(1)?,
            op::SETITEM => self.below(2)?,
            _ => self.unmark()?,
        };
        if start <= self.fence {
            return Err(Problem::EmptyStack);
        }
        let items = &self.registers.stack[start..];
        let target = self.registers.stack[start - 1];
        match code {
            op::APPEND | op::APPENDS => self.builder.append(target, items),
            op::ADDITEMS => self.builder.add_items(target, items),
            _ => self.builder.set_items(target, in_pairs(items)?),
        }
        self.registers.stack.truncate(start);
        Ok(())
    }

    // Classes and objects.

    #[inline(never)]
    fn global(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::EXT1 => Atom::Extension(u32::from(self.byte()?)),
            op::EXT2 => Atom::Extension(u32::from(u16::from_le_bytes(self.fixed()?))),
            op::EXT4 => Atom::Extension(u32::from_le_bytes(self.fixed()?)),
            op::GLOBAL => Atom::Global(self.line()?, self.line()?),
            _ => {
                let name = self.pop()?;
                let module = self.pop()?;
                let item = self.builder.stack_global(module, name);
                self.push(item);
                return Ok(());
            }
        };
        self.atom(atom);
        Ok(())
    }

    #[inline(never)]
    fn object(&mut self, code: u8) -> Step<()> {
        let item = match code {
            op::INST => {
                let global = Atom::Global(self.line()?, self.line()?);
                let class = self.builder.atom(global);
                return self.collect(|builder, items| Ok(builder.instance(class, items)));
            }
            op::OBJ => {
                return self.collect(|builder, items| match items {
                    [class, arguments @ ..] => Ok(builder.instance(*class, arguments)),
                    [] => Err(Problem::NoClass),
                });
            }
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                self.builder.build(target, state);
                return Ok(());
            }
            op::REDUCE => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.builder.call(callable, arguments)
            }
            _ => {
                let keywords = if code == op::NEWOBJ_EX { Some(self.pop()?) } else { None };
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.builder.new_object(class, arguments, keywords)
            }
        };
        self.push(item);
        Ok(())
    }

    // The stack and the memo.

    #[inline(never)]
    fn shuffle(&mut self, code: u8) -> Step<()> {
        match code {
            op::DUP => {
                let top = self.top()?;
                self.push(top);
            }
            op::POP_MARK => {
                let start = self.unmark()?;
                self.registers.stack.truncate(start);
            }
            // A POP with nothing above the last MARK takes the MARK: picklers of recursive tuples rely on it.
            _ if self.registers.marks.last() == Some(&self.registers.stack.len()) => _ = self.unmark()?,
            _ => _ = self.pop()?,
        }
        Ok(())
    }

    #[inline(never)]
    fn rare_memo(&mut self, code: u8) -> Step<()> {
        match code {
            op::LONG_BINGET => {
                let key = u64::from(u32::from_le_bytes(self.fixed()?));
                self.get(key)
            }
            op::LONG_BINPUT => {
                let key = u64::from(u32::from_le_bytes(self.fixed()?));
                self.put(key)
            }
            _ => {
                let line = self.line()?.of(self.input).trim_ascii();
                let text = std::str::from_utf8(line).map_err(|_| Problem::NotANumber)?;
                let key = text.parse().map_err(|_| Problem::NotANumber)?;
                if code == op::GET { self.get(key) } else { self.put(key) }
            }
        }
    }

    #[inline]
    fn put(&mut self, key: u64) -> Step<()> {
        let top = self.top()?;
        self.registers.memo.put(key, top, self.input.len());
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: u64) -> Step<()> {
        let item = self.registers.memo.get(key).ok_or(Problem::NotInMemo(key))?;
        self.push(item);
        Ok(())
    }

    #[inline]
    fn atom(&mut self, atom: Atom) {
        let item = self.builder.atom(atom);
        self.push(item);
    }

    #[inline]
    fn push(&mut self, item: B::Item) {
        self.registers.stack.push(item);
    }

    #[inline]
    fn pop(&mut self) -> Step<B::Item> {
        if self.registers.stack.len() <= self.fence {
            return Err(Problem::EmptyStack);
        }
        self.registers.stack.pop().ok_or(Problem::EmptyStack)
    }

    #[inline]
    fn top(&self) -> Step<B::Item> {
        let stack = &self.registers.stack;
        stack
            .last()
            .filter(|_| stack.len() > self.fence)
            .copied()
            .ok_or(Problem::EmptyStack)
    }

    /// Where the topmost `count` values start.
    #[inline]
    fn below(&self, count: usize) -> Step<usize> {
        let start = self
            .registers
            .stack
            .len()
            .checked_sub(count)
            .ok_or(Problem::EmptyStack)?;
        if start < self.fence {
            Err(Problem::EmptyStack)
        } else {
            Ok(start)
        }
    }

    /// Takes the last MARK away, and says where the values above it start.
    #[inline]
    fn unmark(&mut self) -> Step<usize> {
        let start = self.registers.marks.pop().ok_or(Problem::NoMark)?;
        self.fence = self.registers.marks.last().copied().unwrap_or(0);
        Ok(start)
    }

    // The input.

    #[inline]
    fn byte(&mut self) -> Step<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Step<[u8; N]> {
        let rest = &self.input[self.position..];
        match rest.first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(Problem::Truncated {
                needed: N as u64,
                left: rest.len() as u64,
            }),
        }
    }

    /// A length that was written with a sign.
    fn length(&mut self) -> Step<u64> {
        let length = i32::from_le_bytes(self.fixed()?);
        u64::try_from(length).map_err(|_| Problem::NegativeLength(length))
    }

    #[inline]
    fn fits(&self, length: u64) -> Step<usize> {
        let left = (self.input.len() - self.position) as u64;
        if length > left {
            Err(Problem::Truncated { needed: length, left })
        } else {
            Ok(length as usize)
        }
    }

    #[inline]
    fn span(&mut self, length: u64) -> Step<Span> {
        let start = self.position;
        let end = start + self.fits(length)?;
        self.position = end;
        Ok(Span::new(start, end))
    }

    /// The rest of the line, without its newline.
    fn line(&mut self) -> Step<Span> {
        let start = self.position;
        let length = self.input[start..]
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(Problem::NoNewline)?;
        self.position = start + length + 1;
        Ok(Span::new(start, start + length))
    }
}

fn in_pairs<T>(items: &[T]) -> Step<&[T]> {
    if items.len().is_multiple_of(2) {
        Ok(items)
    } else {
        Err(Problem::OddItems)
    }
}

/// At most eight bytes of little-endian two's complement.
fn small_int(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|top| top & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(wide)
}
