//! A storage under the harness, of whatever kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::question::{Answer, Question};
use crate::step::{Outcome, Step};

/// Stands for all questions about a time before the last transaction: for `load_before` of such a time, and for
/// `load_serial` of a revision that is not the newest.
pub const PAST: &str = "past";

/// Something that is held to the rules: a storage of ours, the specification itself, or a program at the other end of a
/// pipe.
pub trait Subject {
    /// Its name.
    fn name(&self) -> String;

    /// Its capabilities. It gets no step and no question that needs another one.
    fn can(&self) -> Can;

    /// The kinds of questions that it has no answer to ([`Question::kind`], or [`PAST`]). They are not asked.
    fn unasked(&self) -> &[String] {
        &[]
    }

    /// Begins again, with an empty database.
    fn reset(&mut self) -> Result<(), String>;

    /// Does one thing. [`Step::Commit`] never comes: it is a vote and a finish; and before a transaction's first change
    /// there is always a [`Step::Begin`].
    fn perform(&mut self, step: &Step) -> Outcome;

    /// Answers each question, in their order.
    fn ask(&mut self, questions: &[Question]) -> Vec<Answer>;
}

/// A storage of which less is asked than it can do.
pub struct Limited {
    /// The storage.
    pub subject: Box<dyn Subject>,
    /// Capabilities that are not used.
    pub without: Can,
}

impl Subject for Limited {
    fn name(&self) -> String {
        self.subject.name()
    }

    fn can(&self) -> Can {
        self.subject.can().without(self.without)
    }

    fn unasked(&self) -> &[String] {
        self.subject.unasked()
    }

    fn reset(&mut self) -> Result<(), String> {
        self.subject.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        self.subject.perform(step)
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        self.subject.ask(questions)
    }
}

/// The second time, if both are there and the first one is not shorter.
fn longer(has: Option<u64>, needed: Option<u64>) -> Option<u64> {
    needed.filter(|needed| has.is_some_and(|has| has >= *needed))
}

macro_rules! abilities {
    ($($(#[doc = $doc:literal])+ $name:ident $word:literal)+) => {
        /// The capabilities of a storage beyond begin, store, vote, finish, abort, and reading.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Can {
            $($(#[doc = $doc])+ pub $name: bool,)+
            /// Whether each commit forgets what is old (rule 4.12): what was made old so many seconds before it. It is
            /// no capability, and has no name.
            pub forgets: Option<u64>,
        }

        impl Can {
            /// All of it.
            pub const EVERYTHING: Can = Can { $($name: true,)+ forgets: None };
            /// The names of all capabilities, as [`crate::pipe`] uses them.
            pub const WORDS: &[&str] = &[$($word),+];

            /// The capabilities that both have.
            pub fn and(self, other: Can) -> Can {
                Can { $($name: self.$name && other.$name,)+ forgets: longer(self.forgets, other.forgets) }
            }

            /// The capabilities that one of the two has.
            pub fn or(self, other: Can) -> Can {
                Can { $($name: self.$name || other.$name,)+ forgets: self.forgets.or(other.forgets) }
            }

            /// The capabilities of the one that the other lacks.
            pub fn without(self, other: Can) -> Can {
                Can { $($name: self.$name && !other.$name,)+ forgets: self.forgets }
            }

            /// Whether there is all of this in it.
            pub fn covers(self, needed: Can) -> bool {
                self.and(needed) == needed
            }

            /// The names of what it can do.
            pub fn words(self) -> Vec<&'static str> {
                [$((self.$name, $word)),+].into_iter().filter(|(can, _)| *can).map(|(_, word)| word).collect()
            }

            /// Adds the capability of this name.
            pub fn with(mut self, word: &str) -> Result<Can, String> {
                match word {
                    $($word => self.$name = true,)+
                    _ => return Err(format!("unknown capability `{word}`; known capabilities: {}",
                                            Can::WORDS.join(", "))),
                }
                Ok(self)
            }
        }
    };
}

abilities! {
    /// Several transactions under way at the same time, and those that touch different objects between vote and finish.
    concurrent "concurrent"
    /// Several transactions under way at the same time, of which one at a time is between vote and finish.
    sessions "sessions"
    /// Storing an object more than once in a transaction, and undoing that.
    repeat "repeat"
    /// Deleting objects.
    delete "delete"
    /// Depending on an object.
    check_current "check_current"
    /// Merging changes, as [`crate::node::merge`] does.
    resolve "resolve"
    /// Being closed and opened again.
    reopen "reopen"
    /// Being opened for reading only.
    read_only "read_only"
    /// Undo.
    undo "undo"
    /// Versions.
    versions "versions"
    /// Copying: `restore`, and transactions whose tid and status are given.
    restore "restore"
    /// Packing.
    pack "pack"
    /// Collecting garbage when packing.
    collect "collect"
    /// Packing by counts of references.
    counts "counts"
    /// Packing at the edges: where there is no root at its time, where nothing can be taken away, or nothing was
    /// written since the last pack; where a tombstone must be kept, and where nothing is left of the last transaction.
    /// And transactions that are copied as packed.
    edges "edges"
    /// Telling, when packing, of references to objects that are nowhere, and going on if told to.
    dangling "dangling"
    /// Refusing to collect garbage where a record may hide references.
    untold "untold"
    /// Keeping blobs.
    blobs "blobs"
}

impl fmt::Display for Can {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(" "))
    }
}

impl Serialize for Can {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.words())
    }
}

impl<'de> Deserialize<'de> for Can {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(from)?;
        words.iter().try_fold(Can::default(), |can, word| can.with(word)).map_err(serde::de::Error::custom)
    }
}
