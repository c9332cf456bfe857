//! A storage whose records are compressed, checked against the rules like any other: no answer may show the
//! compression.
//!
//! One number may, and is put right here: a line of an object's history says how many bytes its record takes in the
//! storage, and that is less.

use std::sync::Arc;

use vellum_storage::{Compressed, Compression, Error, Resolver, Storage};

use crate::hosted::{Hosted, Merger, Opening};
use crate::question::{Answer, Question};
use crate::step::{Outcome, Step};
use crate::subject::{Can, Subject};

/// A storage under the layer, with the sizes of plain records in histories.
pub struct Plainly(Hosted);

impl Plainly {
    /// The layer above what `below` opens, with the resolver that it is given.
    pub fn new(
        name: impl Into<String>,
        can: Can,
        compression: Compression,
        mut below: impl FnMut(Opening, Arc<dyn Resolver>) -> Result<Arc<dyn Storage>, Error> + Send + 'static,
    ) -> Plainly {
        Plainly(Hosted::new(name, can, move |opening| {
            let below = below(opening, compression.resolver(Arc::new(Merger)))?;
            Ok(Box::new(Compressed::new(below, compression)))
        }))
    }

    /// Puts the plain size in place of the one in the storage, which must not be more.
    fn measure(&mut self, question: &Question, answer: Answer) -> Answer {
        let (Question::History { oid, .. }, Answer::History { entries }) = (question, &answer) else { return answer };
        let (oid, mut entries) = (*oid, entries.clone());
        for entry in entries.iter_mut().filter(|entry| entry.size > 0) {
            let whole = Question::Transactions { first: entry.tid, last: entry.tid, newest_first: false };
            let Some(Answer::Transactions { transactions }) = self.0.ask(&[whole]).pop() else { return answer };
            let mut revisions = transactions.iter().flat_map(|t| &t.revisions).rev();
            let holds = revisions.find(|revision| revision.oid == oid && revision.source.is_none());
            let plain = holds.and_then(|revision| revision.data.as_ref()).map_or(0, |data| data.0.len() as u64);
            if entry.size > plain {
                let message = format!("the record of {oid} takes {} bytes, and plain it has {plain}", entry.size);
                return Answer::Failed { message };
            }
            entry.size = plain;
        }
        Answer::History { entries }
    }
}

impl Subject for Plainly {
    fn name(&self) -> String {
        self.0.name()
    }

    fn can(&self) -> Can {
        self.0.can()
    }

    fn reset(&mut self) -> Result<(), String> {
        self.0.reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        self.0.perform(step)
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let answers = self.0.ask(questions);
        questions.iter().zip(answers).map(|(question, answer)| self.measure(question, answer)).collect()
    }
}
