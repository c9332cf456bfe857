//! Finding the references in a record, without building what the record describes.
//!
//! A pack or a check reads every record of a database for nothing but its references, so this must be quick and must
//! not be fooled. Looking for the bytes of a BINPERSID is quick, and is fooled by any text with a `Q` in it. Loading
//! the objects is never fooled, and is slow. Between the two: run the pickle machine on *tokens*. A string's token is
//! where the string stands; a class's is where its name stands; a tuple or list that could be a persistent id, or an
//! argument of one, remembers its few items; and everything else, however large, is one token that says "something".
//!
//! ```text
//! C <8 bytes> q 7 h 3 \x86 Q         bytes   memo 7   class from memo 3   TUPLE2   BINPERSID
//! stack:   [Str]  [Str]  [Str Class]  [Tuple 0]  -> Strong { oid, class }  [Something]
//! ```
//!
//! A token has twelve bytes and an opcode makes at most one, so memory is bounded by the record's length.

use crate::error::{PickleError, Problem, Untold};
use crate::machine::{Atom, Builder, Machine};
use crate::plain::Inflater;
use crate::reference::{ClassRef, Reference, Shape, Shapes, classify, classify_line};
use crate::registers::Registers;
use crate::strings::{Kind, Span};

/// All references of a record, of every kind, in the order in which they occur and as often as they occur. The record
/// must be plain ([`plain()`](crate::plain())).
///
/// # Errors
///
/// When one of the record's two pickles cannot be read to its end.
pub fn references(record: &[u8]) -> Result<Vec<Reference<'_>>, PickleError> {
    let mut found = Vec::new();
    Scanner::new().scan_plain(record, |reference| found.push(reference))?;
    Ok(found)
}

/// Finds the references in one record after the other.
///
/// It keeps its memory from one record to the next, so that scanning a database allocates only for its largest record.
///
/// ```
/// use vellum_pickle::{Reference, Scanner};
///
/// let record = b"cmail\nFolder\nq\x01.}q\x02(U\x04rootU\x08\0\0\0\0\0\0\0\x01Qu.";
/// let mut strong = Vec::new();
/// let mut scanner = Scanner::new();
/// scanner.scan(record, |reference| {
///     if let Reference::Strong { oid, .. } = reference {
///         strong.push(oid);
///     }
/// })?;
/// assert_eq!(strong, [1]);
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
#[derive(Debug)]
pub struct Scanner {
    registers: Registers<Token>,
    parts: Parts,
    inflater: Inflater,
}

impl Scanner {
    /// A scanner that has scanned nothing yet.
    pub fn new() -> Self {
        Scanner { registers: Registers::new(), parts: Parts::default(), inflater: Inflater::default() }
    }

    /// Gives `found` each reference of the record, in the order in which they occur and as often as they occur.
    ///
    /// # Errors
    ///
    /// When one of the record's two pickles cannot be read to its end. `found` has then got the references before that
    /// place.
    pub fn scan(&mut self, record: &[u8], found: impl FnMut(Reference<'_>)) -> Result<(), PickleError> {
        let mut inflater = std::mem::take(&mut self.inflater);
        let scanned = inflater.plain(record).and_then(|record| self.scan_plain(record, found));
        self.inflater = inflater;
        scanned
    }

    /// The same of a record that is plain.
    fn scan_plain<'a>(&mut self, record: &'a [u8], found: impl FnMut(Reference<'a>)) -> Result<(), PickleError> {
        check_length(record)?;
        self.parts.clear();
        let tokens = Tokens { record, parts: &mut self.parts, found };
        let mut machine = Machine::new(record, &mut self.registers, tokens);
        machine.load()?;
        check_second(record, machine.position())?;
        machine.load()?;
        Ok(())
    }
}

impl Scanner {
    /// Gives `found` each reference of the record whose shape is known, and fails if there may be others. Code that
    /// must not overlook a reference uses this.
    ///
    /// # Errors
    ///
    /// When one of the two pickles cannot be read to its end, or a persistent id has an unknown shape. All that could
    /// be told was given to `found`.
    pub fn scan_all(&mut self, record: &[u8], mut found: impl FnMut(Reference<'_>)) -> Result<(), Untold> {
        let mut unknown = None;
        self.scan(record, |reference| match reference {
            Reference::Bad { offset, why } => drop(unknown.get_or_insert(Untold::Shape { offset, why })),
            known => found(known),
        })?;
        unknown.map_or(Ok(()), Err)
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

/// Refuses records that are longer than the machine can see.
pub(crate) fn check_length(record: &[u8]) -> Result<(), PickleError> {
    if u32::try_from(record.len()).is_ok() {
        return Ok(());
    }
    Err(PickleError { offset: 0, opcode: None, problem: Problem::TooLong(record.len() as u64) })
}

/// Is there anything after the class?
pub(crate) fn check_second(record: &[u8], end: usize) -> Result<(), PickleError> {
    if end < record.len() {
        return Ok(());
    }
    Err(PickleError { offset: end, opcode: None, problem: Problem::NoState })
}

/// As much of a value as a persistent id could need.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Token {
    Something,
    None,
    Str(Kind, Span),
    /// `_codecs.encode(text, 'latin1')`: bytes, which Python 3 writes so for Python 2.
    Encoded(Kind, Span),
    /// An index into the globals.
    Class(u32),
    /// An index into the small items, and how many there are.
    Tuple(u32, u8),
    /// An index into the lists.
    List(u32),
}

/// A list that might be a persistent id. Two items are the most that such a list has; of a longer one, the length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmallList {
    pub(crate) items: [Token; 2],
    pub(crate) length: u8,
}

/// The values that tokens refer to, kept from record to record to reuse their memory.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    globals: Vec<(Span, Span)>,
    items: Vec<Token>,
    pub(crate) lists: Vec<SmallList>,
}

impl Parts {
    fn clear(&mut self) {
        self.globals.clear();
        self.items.clear();
        self.lists.clear();
    }
}

/// The builder that builds tokens, and reports the references.
pub(crate) struct Tokens<'a, 'p, F> {
    pub(crate) record: &'a [u8],
    pub(crate) parts: &'p mut Parts,
    pub(crate) found: F,
}

impl<'a, F> Tokens<'a, '_, F> {
    pub(crate) fn items(&self, start: u32, length: u8) -> &[Token] {
        &self.parts.items[start as usize..][..usize::from(length)]
    }

    fn global(&mut self, module: Span, name: Span) -> Token {
        self.parts.globals.push((module, name));
        Token::Class(self.parts.globals.len() as u32 - 1)
    }

    fn class(&self, index: u32) -> ClassRef<'a> {
        let (module, name) = self.parts.globals[index as usize];
        ClassRef { module: module.of(self.record), name: name.of(self.record) }
    }

    /// The one argument of a `zodbpickle.binary`, which is bytes by another name.
    fn binary(&self, class: Token, arguments: Token) -> Option<Token> {
        let (Token::Class(index), Token::Tuple(start, 1)) = (class, arguments) else {
            return None;
        };
        let bytes = self.items(start, 1)[0];
        let is_bytes_like = match bytes {
            Token::Encoded(..) => true,
            Token::Str(kind, _) => !kind.is_text(),
            _ => false,
        };
        (is_bytes_like && self.class(index).is_binary()).then_some(bytes)
    }
}

impl<'a, F: FnMut(Reference<'a>)> Builder for Tokens<'a, '_, F> {
    type Item = Token;

    #[inline]
    fn atom(&mut self, atom: Atom) -> Token {
        match atom {
            Atom::Str(kind, span) => Token::Str(kind, span),
            Atom::None => Token::None,
            Atom::Global(module, name) => self.global(module, name),
            _ => Token::Something,
        }
    }

    /// Every tuple of a persistent id starts with a string and has at most three items: most tuples are not worth
    /// keeping. That there is nothing in one costs nothing to keep.
    #[inline]
    fn tuple(&mut self, items: &[Token]) -> Token {
        match items {
            [] => Token::Tuple(0, 0),
            [Token::Str(..) | Token::Encoded(..), ..] if items.len() <= 3 => {
                let start = self.parts.items.len() as u32;
                self.parts.items.extend_from_slice(items);
                Token::Tuple(start, items.len() as u8)
            }
            _ => Token::Something,
        }
    }

    fn list(&mut self, items: &[Token]) -> Token {
        self.parts.lists.push(SmallList { items: [Token::Something; 2], length: 0 });
        let list = Token::List(self.parts.lists.len() as u32 - 1);
        self.append(list, items);
        list
    }

    fn append(&mut self, target: Token, items: &[Token]) {
        let Token::List(index) = target else { return };
        let list = &mut self.parts.lists[index as usize];
        for &item in items.iter().take(3) {
            if let Some(slot) = list.items.get_mut(usize::from(list.length)) {
                *slot = item;
            }
            list.length = list.length.saturating_add(1);
        }
    }

    #[inline]
    fn dict(&mut self, _items: &[Token]) -> Token {
        Token::Something
    }

    fn set(&mut self) -> Token {
        Token::Something
    }

    fn frozen_set(&mut self, _items: &[Token]) -> Token {
        Token::Something
    }

    #[inline]
    fn set_items(&mut self, _target: Token, _items: &[Token]) {}

    fn add_items(&mut self, _target: Token, _items: &[Token]) {}

    fn stack_global(&mut self, module: Token, name: Token) -> Token {
        match (module, name) {
            (Token::Str(_, module), Token::Str(_, name)) => self.global(module, name),
            _ => Token::Something,
        }
    }

    fn call(&mut self, callable: Token, arguments: Token) -> Token {
        if let (Token::Class(index), Token::Tuple(start, 2)) = (callable, arguments)
            && let [Token::Str(kind, text), Token::Str(_, encoding)] = *self.items(start, 2)
            && kind.is_text()
            && self.class(index).is_encode(encoding.of(self.record))
        {
            return Token::Encoded(kind, text);
        }
        // Bytes without any byte are written so for Python 2, where `bytes()` was `str()`.
        if let (Token::Class(index), Token::Tuple(_, 0)) = (callable, arguments)
            && self.class(index).is_bytes()
        {
            return Token::Str(Kind::Bytes, Span::new(0, 0));
        }
        self.binary(callable, arguments).unwrap_or(Token::Something)
    }

    fn new_object(&mut self, class: Token, arguments: Token, _keywords: Option<Token>) -> Token {
        self.binary(class, arguments).unwrap_or(Token::Something)
    }

    fn instance(&mut self, _class: Token, _arguments: &[Token]) -> Token {
        Token::Something
    }

    #[inline]
    fn build(&mut self, _target: Token, _state: Token) {}

    #[inline]
    fn persistent(&mut self, at: usize, id: Token) -> Token {
        let reference = classify(self, id, at);
        (self.found)(reference);
        Token::Something
    }

    fn persistent_line(&mut self, at: usize, line: Span) -> Token {
        let reference = classify_line(line.of(self.record), at);
        (self.found)(reference);
        Token::Something
    }
}

impl<'a, F> Shapes<'a> for Tokens<'a, '_, F> {
    type Item = Token;

    #[inline]
    fn shape(&self, item: Token) -> Shape<'a, '_, Token> {
        match item {
            Token::Something => Shape::Other,
            Token::None => Shape::None,
            Token::Str(kind, span) => Shape::string(kind, span.of(self.record)),
            Token::Encoded(kind, span) => Shape::encoded(kind, span.of(self.record)),
            Token::Class(index) => Shape::Class(self.class(index)),
            Token::Tuple(start, length) => Shape::Tuple(self.items(start, length)),
            Token::List(index) => {
                let list = &self.parts.lists[index as usize];
                // A list of more than two items has no shape, and its items do not matter.
                list.items.get(..usize::from(list.length)).map_or(Shape::Other, Shape::List)
            }
        }
    }
}
