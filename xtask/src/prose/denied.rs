//! The words that do not occur in the prose of this repository, each with the wording to use instead.

use std::ops::Range;

use regex::Regex;

use super::passage::{Kind, Passage};

/// The beginning of a sentence, up to its first word.
const SENTENCE: &str = r#"(?:^|[.!?]["')*_]*\s)["'(*_]*"#;
/// The same, or the beginning of a clause after a colon or a semicolon.
const CLAUSE: &str = r#"(?:^|[.!?:;]["')*_]*\s)["'(*_]*"#;

/// A pattern with its reason.
#[derive(Clone, Copy, Debug)]
pub struct Denied {
    pub name: &'static str,
    /// A regular expression. The first group is reported. Case does not matter, and `SENTENCE` and `CLAUSE` stand
    /// for their beginnings.
    pattern: &'static str,
    /// A place that this matches as well is allowed.
    unless: Option<&'static str>,
    /// A question may have it, and a title.
    asks: bool,
    pub instead: &'static str,
    /// Sentences that must be found.
    #[cfg_attr(not(test), expect(dead_code, reason = "samples of the test"))]
    hits: &'static [&'static str],
    /// Sentences that must not be found.
    #[cfg_attr(not(test), expect(dead_code, reason = "samples of the test"))]
    misses: &'static [&'static str],
}

pub const DENIED: &[Denied] = &[
    Denied {
        name: "who-as-subject",
        pattern: r"CLAUSE(who(?:ever|se|m|soever)?)\b",
        unless: None,
        asks: true,
        instead: "name the subject: the reader, the caller, the copy thread; you, in help and pages",
        hits: &[
            "Who reads takes the one of the moment.",
            "It is open: whoever needs it has it.",
            "who did it, and when",
        ],
        misses: &["Who did it?", "A caller who waits is woken.", "The question is: who did it?"],
    },
    Denied {
        name: "what-as-subject",
        pattern: r"SENTENCE(what(?:ever)?)\b",
        unless: None,
        asks: true,
        instead: "name the thing: complete transactions, the verdict, the bytes read so far; or \"returns ...\"",
        hits: &["What is whole is copied.", "It ends. Whatever it had is lost.", "(What came of it.)"],
        misses: &[
            "What is lost?",
            "It says what is lost.",
            "Somewhat later it ends.",
            "Two questions: what is lost, and when.",
        ],
    },
    Denied {
        name: "whoever",
        pattern: r"\b(who(?:m|so)?ever)\b",
        unless: None,
        asks: false,
        instead: "name the person, the thread or the type",
        hits: &["This is told to whoever asks."],
        misses: &["The person who asks is told."],
    },
    Denied {
        name: "comes-to",
        pattern: r"\b((?:com(?:e|es|ing)|came)\s+(?:to|of\s+(?:it|this|that|them|what))|to\s+what\s+end)\b",
        unless: None,
        asks: false,
        instead: "results in, returns, finds, reaches, totals",
        hits: &["What it comes to is written.", "It came to\nnothing.", "See what came of it."],
        misses: &["It comes too late.", "The result comes from the index."],
    },
    Denied {
        name: "can-not",
        pattern: r"\b(can\s+not)\b",
        unless: Some(r"\bcan\s+not\s+only\b"),
        asks: false,
        instead: "cannot",
        hits: &["It can not be read.", "It CAN NOT."],
        misses: &["It cannot be read.", "It can not only be read, but written."],
    },
    Denied {
        name: "he",
        pattern: r"\b(he|him|his|himself)\b",
        unless: None,
        asks: false,
        instead: "it, for a thread, a process or a buffer; you or they, for a person",
        hits: &["The thread waits until he is done.", "It ends with him.", "His buffer is full."],
        misses: &["The thread waits until it is done.", "They hear this."],
    },
    Denied {
        name: "somebody",
        pattern: r"\b(somebody)\b",
        unless: None,
        asks: false,
        instead: "another thread, a program, a user; name it",
        hits: &["It waits until somebody syncs.", "Somebody\nelse has it."],
        misses: &["It waits until another thread syncs.", "Nobody reads it."],
    },
    Denied {
        name: "meanwhile",
        pattern: r"\b(meanwhile)\b",
        unless: None,
        asks: false,
        instead: "concurrent, at the same time, during the pack",
        hits: &["Transactions that come meanwhile are copied."],
        misses: &["Concurrent transactions are copied.", "It was there for a while."],
    },
    Denied {
        name: "so-to-say",
        pattern: r"\b(so\s+to\s+(?:say|speak)|as\s+it\s+were)\b",
        unless: Some(r"\b(?:so|just|exactly|same|file|database|everything|all)\s+as\s+it\s+were\b"),
        asks: false,
        instead: "say it, or leave it out",
        hits: &["The root refers to itself, so to say."],
        misses: &["It is easy to say so."],
    },
    Denied {
        name: "is-none",
        pattern: r"\b((?:is|are|was|were)\s+(?-i:none))\b",
        unless: Some(r"\bthere\s+(?:is|are|was|were)\s+none\b|\b(?:is|are|was|were)\s+none\s+of\b"),
        asks: false,
        instead: "is not one, is invalid, does not exist; and \"there is none\" is fine",
        hits: &["It has a reference that is none."],
        misses: &["If there is none, it fails.", "That is none of its business.", "The separator is None."],
    },
    Denied {
        name: "is-nothing",
        pattern: r"\b((?:that|which|object|revision|record|merely)s?\s+(?:is|are|was|were)\s+nothing|merely\s+nothing)\b",
        unless: Some(r"\bnothing\s+(?:to|but|that|in|left|more|else|like)\b"),
        asks: false,
        instead: "a tombstone, a deleted object",
        hits: &["An object that is nothing is passed over.", "A revision which was nothing stays."],
        misses: &["There is nothing to do.", "It changes nothing.", "That is nothing but a name."],
    },
    Denied {
        name: "in-the-way",
        pattern: r"\b(st(?:and|ands|ood|anding)\s+in\s+(?:the|its|their)\s+way)\b",
        unless: None,
        asks: false,
        instead: "blocks, prevents",
        hits: &["Later changes stand in the way.", "What stands in its way?"],
        misses: &["It stands in the middle.", "Later changes block the undo."],
    },
    Denied {
        name: "but-for",
        pattern: r"\b(but\s+for)\b",
        unless: Some(r"\bnot\s+(?:only\s+)?for\b[^.]*\bbut\s+for\b"),
        asks: false,
        instead: "except for, unless",
        hits: &["All are equal, but for one.", "It is complete but for a byte."],
        misses: &["All are equal, except for one.", "It is not for readers, but for writers."],
    },
    Denied {
        name: "mended",
        pattern: r"\b(mend(?:s|ed|ing)?)\b",
        unless: None,
        asks: false,
        instead: "fix, repair",
        hits: &["The fault was mended.", "Mend the reference."],
        misses: &["The fault was fixed.", "We recommend it.", "It is amended."],
    },
    Denied {
        name: "held-against",
        pattern: r"\b(h(?:old|olds|eld|olding)\s+(?:\S+\s+){0,2}against)\b",
        unless: None,
        asks: false,
        instead: "check against, compare with",
        hits: &["Each length is held against the rest.", "It holds the engine against ZODB."],
        misses: &["Each length is checked against the rest.", "The lock is held."],
    },
    Denied {
        name: "be-it",
        pattern: r"\b(be\s+(?:it|they)\s+(?:a|an|the|in|of|by|on|from|empty|shared|directly|committed|comparable)|or\s+be\s+it)\b",
        unless: None,
        asks: false,
        instead: "whether it is ..., even if it is ...",
        hits: &["The last one survives, be it empty.", "All of them, be they in a file."],
        misses: &["It may be in a file.", "Let it be."],
    },
    Denied {
        name: "for-want",
        pattern: r"\b(for\s+want\s+of|no\s+more\s+than\s+what|it\s+is\s+not\s+that)\b",
        unless: None,
        asks: false,
        instead: "without, for lack of; only",
        hits: &["It fails for want of room."],
        misses: &["It fails without room."],
    },
];

/// A [`Denied`] with its compiled expressions.
pub struct Rule {
    pub denied: &'static Denied,
    pattern: Regex,
    unless: Option<Regex>,
}

impl Rule {
    pub fn new(denied: &'static Denied) -> Rule {
        let expanded = |pattern: &str| pattern.replace("SENTENCE", SENTENCE).replace("CLAUSE", CLAUSE);
        let compiled = |pattern: &str| Regex::new(&format!("(?i){}", expanded(pattern))).unwrap();
        Rule { denied, pattern: compiled(denied.pattern), unless: denied.unless.map(compiled) }
    }

    /// Where the passage breaks the rule.
    pub fn find(&self, passage: &Passage) -> Vec<Range<usize>> {
        if self.denied.asks && passage.kind == Kind::Title {
            return Vec::new();
        }
        let text = passage.text.as_str();
        let allowed: Vec<_> =
            self.unless.iter().flat_map(|unless| unless.find_iter(text)).map(|found| found.range()).collect();
        let found = self.pattern.captures_iter(text).map(|found| found.get(1).unwrap().range());
        let is_allowed = |place: &Range<usize>| {
            allowed.iter().any(|allowed| allowed.start < place.end && place.start < allowed.end)
                || self.denied.asks && is_question(&text[place.start..])
        };
        found.filter(|place| !is_allowed(place)).collect()
    }
}

/// Whether the sentence that begins here ends with a question mark.
fn is_question(text: &str) -> bool {
    let mut ends = text.char_indices().filter(|(_, character)| matches!(character, '.' | '!' | '?'));
    let end = ends.find(|&(offset, mark)| {
        mark == '?' || text[offset + 1..].starts_with(|next: char| !next.is_alphanumeric()) || text.len() == offset + 1
    });
    end.is_some_and(|(_, mark)| mark == '?')
}

#[cfg(test)]
mod tests {
    use super::super::passage;
    use super::*;

    fn found(rule: &Rule, sample: &str) -> Vec<String> {
        let passages = passage::of_markdown(sample);
        let in_passage = |passage: &Passage| {
            rule.find(passage).into_iter().map(|place| passage.text[place].to_owned()).collect::<Vec<_>>()
        };
        passages.iter().flat_map(in_passage).collect()
    }

    #[test]
    fn each_pattern_finds_its_hits_and_passes_over_its_misses() {
        for denied in DENIED {
            let rule = Rule::new(denied);
            assert!(!denied.hits.is_empty() && !denied.misses.is_empty(), "{} has no samples", denied.name);
            for hit in denied.hits {
                assert!(!found(&rule, hit).is_empty(), "{}: not found in: {hit}", denied.name);
            }
            for miss in denied.misses {
                assert_eq!(found(&rule, miss), Vec::<String>::new(), "{}: found in: {miss}", denied.name);
            }
        }
    }

    #[test]
    fn a_title_and_a_code_span_are_no_sentences() {
        let rule = Rule::new(&DENIED[1]);
        assert!(found(&rule, "# What must hold").is_empty());
        assert!(found(&rule, "| what it does |\n|---|\n| a check |").is_empty());
        assert!(found(&rule, "`what` is a word.").is_empty());
        assert_eq!(found(&rule, "| a check |\n| what it does |"), ["what"]);
    }
}
