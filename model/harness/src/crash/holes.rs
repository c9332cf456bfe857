//! The answers that holes in a transaction can change, where the databases before and after it agree.
//!
//! Any field of its records may be lost, as far as the file still adds up: one that has lost its version's name is
//! shown by another version, and one without the version altogether by the trunk. So of the objects that it touches
//! everything may be otherwise from then on, and the former state may have been shown only until then.

use std::collections::BTreeSet;

use vellum_storage::{Oid, Tid};

use crate::question::{Answer, Question};

pub(super) struct Holes {
    /// The objects that it touches.
    touched: BTreeSet<Oid>,
    /// None if it is not known.
    tid: Option<Tid>,
}

impl Holes {
    /// Of the transaction that leads from one database to the other, by what they answer.
    pub fn of(questions: &[Question], before: &[Answer], after: &[Answer]) -> Holes {
        let mut holes = Holes { touched: BTreeSet::new(), tid: None };
        let differ = before.iter().zip(after).map(|(before, after)| before != after);
        for ((question, after), _) in questions.iter().zip(after).zip(differ).filter(|(_, differ)| *differ) {
            match (question, after) {
                (Question::LastTransaction, Answer::Tid { tid }) => holes.tid = Some(*tid),
                (Question::Load { oid, .. } | Question::LoadBefore { oid, .. } | Question::History { oid, .. }, _) => {
                    holes.touched.insert(*oid);
                }
                _ => {}
            }
        }
        holes
    }

    /// Whether this can be said, although both databases say otherwise.
    pub fn hide(&self, question: &Question, before: &Answer, said: &Answer) -> bool {
        match question {
            Question::Versions => true,
            Question::Load { oid, .. } | Question::ModifiedInVersion { oid } => self.touched.contains(oid),
            Question::LoadBefore { oid, before: then } if self.touched.contains(oid) => match (before, said) {
                _ if self.tid.is_some_and(|tid| *then > tid) => true,
                // Only until when it is shown.
                (Answer::Shown { data, tid, .. }, Answer::Shown { data: found, tid: since, next }) => {
                    (data, tid) == (found, since) && *next == self.tid
                }
                _ => false,
            },
            _ => false,
        }
    }
}
