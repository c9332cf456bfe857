//! The pickle machine: one loop that carries out every opcode, and builds what its caller needs.
//!
//! A pickle is a program for a machine with a stack, a stack of marks and a memo. A [`Builder`] decides what the
//! program's values are: the scanner's are small tokens that remember just enough to recognise a reference,
//! the tree's are nodes of an arena. So there is one place that knows what TUPLE2 takes off the stack, and each
//! builder's copy of this loop is compiled for its own item.
//!
//! The loop does not recurse, it allocates nothing that the input's length does not justify, and it never runs
//! anything: a GLOBAL is two strings.
//!
//! Python's own machine is lenient here and there, and so is this one: a POP may take a MARK, a stack need not be empty
//! at STOP, a PROTO may come twice, frames need not end where opcodes end.

use crate::error::{PickleError, Problem};
use crate::input::{Input, Step};
use crate::opcode as op;
use crate::registers::Registers;
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

/// Builds something from a pickle's values.
pub(crate) trait Builder {
    /// A value on the stack.
    type Item: Copy;

    /// Whether it will take no more, because it holds as much as it may.
    fn is_full(&self) -> bool {
        false
    }

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

/// A machine at a position in an input.
pub(crate) struct Machine<'a, 'r, B: Builder> {
    input: Input<'a>,
    registers: &'r mut Registers<B::Item>,
    pub(crate) builder: B,
}

impl<'a, 'r, B: Builder> Machine<'a, 'r, B> {
    /// A machine at the start of `input`, of which it sees at most 4 GiB.
    pub(crate) fn new(input: &'a [u8], registers: &'r mut Registers<B::Item>, builder: B) -> Self {
        let input = Input::new(input);
        registers.start_input(input.bytes.len());
        Machine { input, registers, builder }
    }

    /// How far the machine has read.
    pub(crate) fn position(&self) -> usize {
        self.input.position
    }

    /// Reads one pickle, up to its STOP, and gives its value. The memo stays for the next pickle: the second pickle of
    /// a record may use what the first one put there.
    pub(crate) fn load(&mut self) -> Result<B::Item, PickleError> {
        self.registers.start_pickle();
        loop {
            let at = self.input.position;
            let Some(&code) = self.input.bytes.get(at) else {
                return Err(PickleError { offset: at, opcode: None, problem: Problem::NoStop });
            };
            self.input.position = at + 1;
            if self.builder.is_full() {
                let problem = Problem::TooManyParts;
                return Err(PickleError { offset: at, opcode: Some(code), problem });
            }
            match self.step(at, code) {
                Ok(None) => {}
                Ok(Some(item)) => return Ok(item),
                Err(problem) => {
                    return Err(PickleError { offset: at, opcode: Some(code), problem });
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
                let key = u64::from(self.input.byte()?);
                self.registers.put(key)?;
            }
            op::BINGET => {
                let key = u64::from(self.input.byte()?);
                self.registers.get(key)?;
            }
            op::MEMOIZE => {
                self.registers.memoize()?;
            }
            op::MARK => {
                self.registers.mark();
            }
            op::TUPLE1 => self.small_tuple(1)?,
            op::TUPLE2 => self.small_tuple(2)?,
            op::TUPLE3 => self.small_tuple(3)?,
            op::TUPLE => self.collect(|builder, items| Ok(builder.tuple(items)))?,
            op::BINPERSID => {
                let id = self.registers.pop()?;
                let item = self.builder.persistent(at, id);
                self.registers.push(item);
            }
            op::STOP => return self.registers.pop().map(Some),
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
                let line = self.input.line()?;
                let item = self.builder.persistent_line(at, line);
                self.registers.push(item);
            }
            op::NEXT_BUFFER => self.atom(Atom::Buffer),
            op::READONLY_BUFFER => _ = self.registers.top()?,
            op::PROTO => {
                let protocol = self.input.byte()?;
                if protocol > 5 {
                    return Err(Problem::Protocol(protocol));
                }
            }
            // A frame says how much to read ahead. All the input is here already: only a length beyond it matters.
            op::FRAME => {
                let length = u64::from_le_bytes(self.input.fixed()?);
                self.input.fits(length)?;
            }
            _ => return Err(Problem::UnknownOpcode),
        }
        Ok(None)
    }

    // Values.

    #[inline]
    fn scalar(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::BININT1 => Atom::Int(i64::from(self.input.byte()?)),
            op::BININT2 => Atom::Int(i64::from(u16::from_le_bytes(self.input.fixed()?))),
            op::BININT => Atom::Int(i64::from(i32::from_le_bytes(self.input.fixed()?))),
            op::BINFLOAT => Atom::Float(f64::from_be_bytes(self.input.fixed()?)),
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
                let length = u64::from(self.input.byte()?);
                self.input.long(length)?
            }
            op::LONG4 => {
                let length = self.input.length()?;
                self.input.long(length)?
            }
            op::FLOAT => {
                let line = self.input.line()?.of(self.input.bytes).trim_ascii();
                let text = std::str::from_utf8(line).map_err(|_| Problem::NotANumber)?;
                Atom::Float(text.parse().map_err(|_| Problem::NotANumber)?)
            }
            _ => {
                let line = self.input.line()?;
                match (code, line.of(self.input.bytes)) {
                    // Protocol 0 had no opcode for truth, and wrote it as a number with a needless zero.
                    (op::INT, b"00") => Atom::Bool(false),
                    (op::INT, b"01") => Atom::Bool(true),
                    _ => self.input.decimal(line)?,
                }
            }
        };
        self.atom(atom);
        Ok(())
    }

    #[inline]
    fn short_string(&mut self, kind: Kind) -> Step<()> {
        let length = u64::from(self.input.byte()?);
        let span = self.input.span(length)?;
        self.atom(Atom::Str(kind, span));
        Ok(())
    }

    #[inline]
    fn string(&mut self, kind: Kind) -> Step<()> {
        let length = u64::from(u32::from_le_bytes(self.input.fixed()?));
        let span = self.input.span(length)?;
        self.atom(Atom::Str(kind, span));
        Ok(())
    }

    #[inline(never)]
    fn rare_string(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::STRING => Atom::Str(Kind::NativeLine, self.input.line()?),
            op::UNICODE => Atom::Str(Kind::TextLine, self.input.line()?),
            op::BINSTRING => {
                let length = self.input.length()?;
                Atom::Str(Kind::Native, self.input.span(length)?)
            }
            _ => {
                let length = u64::from_le_bytes(self.input.fixed()?);
                let span = self.input.span(length)?;
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
        let start = self.registers.below(count)?;
        let item = self.builder.tuple(self.registers.above(start));
        self.registers.truncate(start);
        self.registers.push(item);
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
        self.registers.push(item);
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
        let start = self.registers.unmark()?;
        let item = make(&mut self.builder, self.registers.above(start))?;
        self.registers.truncate(start);
        self.registers.push(item);
        Ok(())
    }

    fn fill(&mut self, code: u8) -> Step<()> {
        let start = match code {
            op::APPEND => self.registers.below(1)?,
            op::SETITEM => self.registers.below(2)?,
            _ => self.registers.unmark()?,
        };
        let target = self.registers.target(start)?;
        let items = self.registers.above(start);
        match code {
            op::APPEND | op::APPENDS => self.builder.append(target, items),
            op::ADDITEMS => self.builder.add_items(target, items),
            _ => self.builder.set_items(target, in_pairs(items)?),
        }
        self.registers.truncate(start);
        Ok(())
    }

    // Classes and objects.

    #[inline(never)]
    fn global(&mut self, code: u8) -> Step<()> {
        let atom = match code {
            op::EXT1 => Atom::Extension(u32::from(self.input.byte()?)),
            op::EXT2 => Atom::Extension(u32::from(u16::from_le_bytes(self.input.fixed()?))),
            op::EXT4 => Atom::Extension(u32::from_le_bytes(self.input.fixed()?)),
            op::GLOBAL => Atom::Global(self.input.line()?, self.input.line()?),
            _ => {
                let name = self.registers.pop()?;
                let module = self.registers.pop()?;
                let item = self.builder.stack_global(module, name);
                self.registers.push(item);
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
                let global = Atom::Global(self.input.line()?, self.input.line()?);
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
                let state = self.registers.pop()?;
                let target = self.registers.top()?;
                self.builder.build(target, state);
                return Ok(());
            }
            op::REDUCE => {
                let arguments = self.registers.pop()?;
                let callable = self.registers.pop()?;
                self.builder.call(callable, arguments)
            }
            _ => {
                let keywords = if code == op::NEWOBJ_EX { Some(self.registers.pop()?) } else { None };
                let arguments = self.registers.pop()?;
                let class = self.registers.pop()?;
                self.builder.new_object(class, arguments, keywords)
            }
        };
        self.registers.push(item);
        Ok(())
    }

    // The stack and the memo.

    #[inline(never)]
    fn shuffle(&mut self, code: u8) -> Step<()> {
        match code {
            op::DUP => {
                let top = self.registers.top()?;
                self.registers.push(top);
            }
            op::POP_MARK => {
                let start = self.registers.unmark()?;
                self.registers.truncate(start);
            }
            // A POP with nothing above the last MARK takes the MARK: picklers of recursive tuples rely on it.
            _ if self.registers.at_mark() => _ = self.registers.unmark()?,
            _ => _ = self.registers.pop()?,
        }
        Ok(())
    }

    #[inline(never)]
    fn rare_memo(&mut self, code: u8) -> Step<()> {
        match code {
            op::LONG_BINGET => {
                let key = u64::from(u32::from_le_bytes(self.input.fixed()?));
                self.registers.get(key)
            }
            op::LONG_BINPUT => {
                let key = u64::from(u32::from_le_bytes(self.input.fixed()?));
                self.registers.put(key)
            }
            _ => {
                let line = self.input.line()?.of(self.input.bytes).trim_ascii();
                let text = std::str::from_utf8(line).map_err(|_| Problem::NotANumber)?;
                let key = text.parse().map_err(|_| Problem::NotANumber)?;
                if code == op::GET { self.registers.get(key) } else { self.registers.put(key) }
            }
        }
    }

    #[inline]
    fn atom(&mut self, atom: Atom) {
        let item = self.builder.atom(atom);
        self.registers.push(item);
    }
}

fn in_pairs<T>(items: &[T]) -> Step<&[T]> {
    if items.len().is_multiple_of(2) { Ok(items) } else { Err(Problem::OddItems) }
}
