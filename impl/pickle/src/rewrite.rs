//! Putting other oids into a record's references, for a record that moves to another database.
//!
//! Python does it by loading the record and pickling it again. Without running anything there is a simpler way: nearly
//! every oid stands in the record as eight bytes of its own, and eight others can be put in their place. Nothing moves,
//! so no length, frame or memo number changes.
//!
//! ```text
//!   C 08 <old oid> q 7 h 3 \x86 Q  ...  h 7 h 3 \x86 Q        the second reference takes the same oid from the memo
//!   C 08 <new oid> q 7 h 3 \x86 Q  ...  h 7 h 3 \x86 Q
//! ```
//!
//! The memo needs care. The bytes of an oid may be used by several references, which all become
//! references to the new oid, as they should. But an object may also keep another's oid as plain data, and pickle
//! writes equal bytes once if they are the same Python object. Such data must not change behind the object's back, so
//! the builder here follows every string that is long enough to be an oid to wherever it is used; one that is used both
//! in a reference and elsewhere is refused.
//!
//! Refused are, too, the spellings of Python 2 in which eight bytes take more room or less, depending on what they are:
//! quoted lines, and text with a new oid that is not ASCII.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{PickleError, Problem};
use crate::machine::{Atom, Builder, Machine};
use crate::plain::plain;
use crate::reference::{Reference, classify, classify_line};
use crate::references::{Parts, Token, Tokens, check_length, check_second};
use crate::registers::Registers;
use crate::strings::{Kind, Span};

/// The record with other oids in its references: those that `new` gives; where it gives none, the reference stays as it
/// is. It is called for each reference, in the order in which they occur and as often as they occur, those of class
/// pickle and state alike; and must say the same each time. Everything else in the record stays, byte for byte; of a
/// compressed record, everything else in its plain bytes, and the result is plain.
///
/// ```
/// use vellum_pickle::{Reference, references, rewrite_references};
///
/// let record = b"cmail\nFolder\nq\x01.}q\x02(U\x04rootU\x08\0\0\0\0\0\0\0\x01Qu.";
/// let moved = rewrite_references(record, |reference| match reference {
///     Reference::Strong { oid, .. } => Some(oid + 0x100),
///     _ => None,
/// })?;
/// assert_eq!(references(&moved)?, [Reference::Strong { oid: 0x101, class: None }]);
/// # Ok::<(), vellum_pickle::PickleError>(())
/// ```
///
/// # Errors
///
/// When one of the record's two pickles cannot be read to its end; when an oid cannot be replaced in place
/// ([`Problem::OidInPlace`]), or is also something else ([`Problem::OidShared`]).
pub fn rewrite_references(
    record: &[u8],
    new: impl FnMut(&Reference<'_>) -> Option<u64>,
) -> Result<Vec<u8>, PickleError> {
    let record = plain(record)?;
    let record = record.as_ref();
    check_length(record)?;
    let (mut registers, mut parts) = (Registers::new(), Parts::default());
    let tokens = Tokens { record, parts: &mut parts, found: ignore as fn(Reference<'_>) };
    let rewriter = Rewriter {
        tokens,
        new,
        patches: BTreeMap::new(),
        elsewhere: BTreeSet::new(),
        tuples: BTreeSet::new(),
        lists: BTreeSet::new(),
        trouble: None,
    };
    let mut machine = Machine::new(record, &mut registers, rewriter);
    for part in 0..2 {
        if part == 1 {
            check_second(record, machine.position())?;
        }
        let value = machine.load()?;
        machine.builder.is_used(&[value]);
    }
    machine.builder.patched()
}

fn ignore(_: Reference<'_>) {}

/// A builder of tokens that notes where oids stand, and which strings are something else.
struct Rewriter<'a, 'p, N> {
    tokens: Tokens<'a, 'p, fn(Reference<'a>)>,
    new: N,
    /// Where an oid starts: the new one, and the offset of the opcode that first used it.
    patches: BTreeMap<usize, ([u8; 8], usize)>,
    /// Where strings start that are used other than in a reference.
    elsewhere: BTreeSet<usize>,
    /// Tuples and lists that are: their items are, too.
    tuples: BTreeSet<u32>,
    lists: BTreeSet<u32>,
    trouble: Option<PickleError>,
}

/// The possible uses of the bytes of an oid.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    /// Any eight.
    Bytes,
    /// Eight characters of ASCII text.
    Ascii,
    /// The same, and the line must not end early.
    Line,
}

impl<'a, N: FnMut(&Reference<'_>) -> Option<u64>> Rewriter<'a, '_, N> {
    /// These are used other than in a reference.
    fn is_used(&mut self, items: &[Token]) {
        let mut items = items.to_vec();
        while let Some(item) = items.pop() {
            match item {
                Token::Str(_, span) | Token::Encoded(_, span) => {
                    // Shorter ones are no oids, and longer ones none that could be replaced.
                    if span.of(self.tokens.record).len() == 8 {
                        self.elsewhere.insert(span.start());
                    }
                }
                // All those with nothing in them have one token, and that of another tuple may start where it does.
                Token::Tuple(_, 0) => {}
                Token::Tuple(start, length) => {
                    if self.tuples.insert(start) {
                        items.extend_from_slice(self.tokens.items(start, length));
                    }
                }
                Token::List(index) => drop(self.lists.insert(index)),
                Token::Something | Token::None | Token::Class(_) => {}
            }
        }
    }

    /// Notes that the reference's oid is to become another.
    fn replace(&mut self, at: usize, reference: Reference<'_>, oid: Option<(Token, Room)>) {
        let old = match reference {
            Reference::Strong { oid, .. } | Reference::Weak { oid, .. } | Reference::Foreign { oid, .. } => oid,
            Reference::Bad { .. } => return,
        };
        let Some(new) = (self.new)(&reference).filter(|new| *new != old) else {
            // Then it must stay: as if it was plain data.
            return oid.into_iter().for_each(|(token, _)| self.is_used(&[token]));
        };
        let bytes = new.to_be_bytes();
        let found = oid.and_then(|(token, room)| self.place(token, room));
        let problem = match found {
            None => Some(Problem::OidInPlace("a quoted or escaped text")),
            Some((_, room)) if room != Room::Bytes && !bytes.is_ascii() => Some(Problem::OidInPlace("an ASCII text")),
            Some((_, Room::Line)) if bytes.contains(&b'\n') => Some(Problem::OidInPlace("a line of text")),
            Some((start, _)) => {
                let (first, _) = self.patches.entry(start).or_insert((bytes, at));
                (*first != bytes).then_some(Problem::OidShared)
            }
        };
        self.fail(at, problem);
    }

    fn fail(&mut self, offset: usize, problem: Option<Problem>) {
        let trouble = problem.map(|problem| PickleError { offset, opcode: None, problem });
        self.trouble = self.trouble.take().or(trouble);
    }

    /// Where the eight bytes of an oid start, if they stand there as they are.
    fn place(&self, token: Token, room: Room) -> Option<(usize, Room)> {
        let (span, room): (Span, Room) = match token {
            Token::Str(Kind::Bytes | Kind::Native, span) => (span, room),
            Token::Str(Kind::Text, span) | Token::Encoded(Kind::Text, span) => (span, Room::Ascii),
            _ => return None,
        };
        (span.of(self.tokens.record).len() == 8).then_some((span.start(), room))
    }

    /// The part of a persistent id that is the oid.
    fn oid(&self, id: Token) -> Option<Token> {
        match id {
            Token::Tuple(start, 2) => Some(self.tokens.items(start, 2)[0]),
            Token::List(index) => {
                let list = &self.tokens.parts.lists[index as usize];
                let arguments = match (list.length, list.items[1]) {
                    (1, _) => return Some(list.items[0]),
                    (2, Token::Tuple(start, length)) => self.tokens.items(start, length),
                    _ => return None,
                };
                // ('w', (oid, ...)) is a weak one; those into other databases name the database first.
                match classify(&self.tokens, id, 0) {
                    Reference::Weak { .. } => arguments.first().copied(),
                    _ => arguments.get(1).copied(),
                }
            }
            other => Some(other),
        }
    }

    /// The record with its new oids.
    fn patched(mut self) -> Result<Vec<u8>, PickleError> {
        // The items of a used list are used, and so are later additions to it.
        let mut seen = BTreeSet::new();
        while let Some(&index) = self.lists.difference(&seen).next() {
            seen.insert(index);
            let items = self.tokens.parts.lists[index as usize].items;
            self.is_used(&items);
        }
        let shared = self.patches.iter().find(|(start, _)| self.elsewhere.contains(start)).map(|(_, (_, at))| *at);
        if let Some(at) = shared {
            self.fail(at, Some(Problem::OidShared));
        }
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        let mut record = self.tokens.record.to_vec();
        for (start, (bytes, _)) in self.patches {
            record[start..start + 8].copy_from_slice(&bytes);
        }
        Ok(record)
    }

    /// A value made of these, unless it is a string or a small tuple itself, is something else than a reference.
    fn made(&mut self, made: Token, from: &[Token]) -> Token {
        if let Token::Something = made {
            self.is_used(from);
        }
        made
    }
}

impl<N: FnMut(&Reference<'_>) -> Option<u64>> Builder for Rewriter<'_, '_, N> {
    type Item = Token;

    fn atom(&mut self, atom: Atom) -> Token {
        self.tokens.atom(atom)
    }

    fn tuple(&mut self, items: &[Token]) -> Token {
        let tuple = self.tokens.tuple(items);
        self.made(tuple, items)
    }

    fn list(&mut self, items: &[Token]) -> Token {
        let list = self.tokens.list(&[]);
        self.append(list, items);
        list
    }

    fn append(&mut self, target: Token, items: &[Token]) {
        self.tokens.append(target, items);
        match target {
            // A longer list is no reference, and forgets what else is in it.
            Token::List(index) if self.tokens.parts.lists[index as usize].length <= 2 => {}
            _ => {
                self.is_used(&[target]);
                self.is_used(items);
            }
        }
    }

    fn dict(&mut self, items: &[Token]) -> Token {
        self.is_used(items);
        Token::Something
    }

    fn set(&mut self) -> Token {
        Token::Something
    }

    fn frozen_set(&mut self, items: &[Token]) -> Token {
        self.is_used(items);
        Token::Something
    }

    fn set_items(&mut self, _: Token, items: &[Token]) {
        self.is_used(items);
    }

    fn add_items(&mut self, _: Token, items: &[Token]) {
        self.is_used(items);
    }

    fn stack_global(&mut self, module: Token, name: Token) -> Token {
        self.is_used(&[module, name]);
        self.tokens.stack_global(module, name)
    }

    fn call(&mut self, callable: Token, arguments: Token) -> Token {
        let made = self.tokens.call(callable, arguments);
        self.made(made, &[callable, arguments])
    }

    fn new_object(&mut self, class: Token, arguments: Token, keywords: Option<Token>) -> Token {
        self.is_used(keywords.as_slice());
        let made = self.tokens.new_object(class, arguments, keywords);
        self.made(made, &[class, arguments])
    }

    fn instance(&mut self, _: Token, arguments: &[Token]) -> Token {
        self.is_used(arguments);
        Token::Something
    }

    fn build(&mut self, _: Token, state: Token) {
        self.is_used(&[state]);
    }

    fn persistent(&mut self, at: usize, id: Token) -> Token {
        let oid = self.oid(id).map(|token| (token, Room::Bytes));
        let reference = classify(&self.tokens, id, at);
        self.replace(at, reference, oid);
        Token::Something
    }

    fn persistent_line(&mut self, at: usize, line: Span) -> Token {
        let reference = classify_line(line.of(self.tokens.record), at);
        self.replace(at, reference, Some((Token::Str(Kind::Bytes, line), Room::Line)));
        Token::Something
    }
}
