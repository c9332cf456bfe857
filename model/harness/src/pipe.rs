//! A storage in another process, in whatever language: lines of JSON through its stdin and stdout.
//!
//! One line in, one line out, in turn; `docs/peers.md` explains it to authors of such a program, with an example.
//!
//! ```text
//!   the harness says                                     the program answers
//!   {"do":"hello"}                                       {"name":"…","can":["undo",…]}    can: words of Can
//!                                                                   and "cannot":[…]       kinds of Question
//!   {"do":"reset"}                                       {"is":"done"}                    the database is empty
//!   {"do":"vote","transaction":"a","clock":"040d…"}      {"is":"voted","resolved":[]}     a Step, an Outcome
//!   [{"ask":"last_transaction"},{"ask":"load",…}]        [{"is":"tid","tid":"040d…"},…]   Questions, Answers
//! ```
//!
//! The other program may do anything. If it dies, keeps silent, or sends no valid answer, the step or the questions
//! have failed, with what happened and the program's last words on stderr as the message; it is ended then, and the
//! next [`reset`](Subject::reset) starts it anew. Three threads make sure that nothing here waits for it without a
//! limit: one writes the lines, one reads the answers, one reads its stderr.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vellum_sync::Mutex;

use crate::question::{Answer, Question};
use crate::step::{Outcome, Step};
use crate::subject::{Can, PAST, Subject};

/// How long an answer may take, by default.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the program may take to end when its stdin is closed, before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes of an answer's line.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Lines of stderr that are kept for a message, and bytes of each.
const LAST_WORDS: usize = 12;
const WORDS_BYTES_MAX: usize = 1024;
/// Characters of a wrong answer that are shown.
const SHOWN_MAX: usize = 200;

/// A storage in another process.
pub struct Pipe {
    program: String,
    arguments: Vec<String>,
    limits: Limits,
    name: String,
    can: Can,
    unasked: Vec<String>,
    /// How it is started, again and again.
    start: Box<Start>,
    running: Option<Box<dyn Talk>>,
    /// Why it is not running.
    ended: String,
}

type Start = dyn FnMut() -> std::io::Result<Box<dyn Talk>>;

/// A program that answers lines.
trait Talk {
    /// Sends a line; returns the answer with its newline, or the reason why there is none.
    fn say(&mut self, line: String, limits: Limits) -> Result<Vec<u8>, String>;

    /// Ends it, whatever it does, and gives its last words.
    fn end(self: Box<Self>) -> String;
}

#[derive(Clone, Copy)]
struct Limits {
    patience: Duration,
    line_bytes: usize,
}

#[derive(Deserialize)]
struct Hello {
    name: String,
    can: Can,
    #[serde(default)]
    cannot: Vec<String>,
}

impl Pipe {
    /// Starts a program and asks what it can do. The error says what went wrong.
    pub fn start(program: &str, arguments: &[String]) -> Result<Pipe, String> {
        Pipe::start_within(program, arguments, PATIENCE)
    }

    /// The same, where an answer may take this long.
    pub fn start_within(program: &str, arguments: &[String], patience: Duration) -> Result<Pipe, String> {
        Pipe::limited(program, arguments, Limits { patience, line_bytes: LINE_BYTES_MAX })
    }

    fn limited(program: &str, arguments: &[String], limits: Limits) -> Result<Pipe, String> {
        let (program, arguments) = (program.to_owned(), arguments.to_vec());
        let said = (program.clone(), arguments.clone());
        let start = move || Ok(Box::new(Running::start(&program, &arguments, limits)?) as Box<dyn Talk>);
        Pipe::talk(said, limits, Box::new(start))
    }

    /// A program that is gone, of which the answers are left: one line for each line that it gets. It answers the same
    /// each time that it is started. So any answers can be tried without a real program.
    pub fn recorded(answers: &[u8]) -> Result<Pipe, String> {
        let answers: Arc<[u8]> = answers.into();
        let limits = Limits { patience: PATIENCE, line_bytes: LINE_BYTES_MAX };
        let start = move || Ok(Box::new(Recorded { answers: Arc::clone(&answers), at: 0 }) as Box<dyn Talk>);
        Pipe::talk(("a recording".to_owned(), Vec::new()), limits, Box::new(start))
    }

    fn talk((program, arguments): (String, Vec<String>), limits: Limits, start: Box<Start>) -> Result<Pipe, String> {
        let (name, can, unasked, ended) = (program.clone(), Can::default(), Vec::new(), String::new());
        let mut pipe = Pipe { program, arguments, limits, name, can, unasked, start, running: None, ended };
        let hello = pipe.restart()?;
        if let Some(word) = hello.cannot.iter().find(|word| **word != PAST && !Question::KINDS.contains(&&***word)) {
            return Err(format!("{pipe} cannot `{word}`; known questions: {}, {PAST}", Question::KINDS.join(", ")));
        }
        (pipe.name, pipe.can, pipe.unasked) = (hello.name, hello.can, hello.cannot);
        Ok(pipe)
    }

    fn restart(&mut self) -> Result<Hello, String> {
        self.running = None;
        let started = (self.start)();
        self.running = Some(started.map_err(|e| format!("{self} cannot be started: {e}"))?);
        self.say(r#"{"do":"hello"}"#.to_owned())
    }

    /// Says a line and reads the answer. After an error the program is ended.
    fn say<T: DeserializeOwned>(&mut self, line: String) -> Result<T, String> {
        let Some(running) = &mut self.running else {
            return Err(format!("{self} is not running any more: {}", self.ended));
        };
        let answer = running.say(line, self.limits).and_then(|answer| {
            serde_json::from_slice(&answer).map_err(|e| format!("said what is no answer ({e}): {}", shown(&answer)))
        });
        answer.map_err(|what| {
            let last_words = self.running.take().map(|running| running.end()).unwrap_or_default();
            self.ended = format!("it {what}{last_words}");
            format!("{self} {what}{last_words}")
        })
    }

    fn say_json<T: DeserializeOwned>(&mut self, what: &(impl serde::Serialize + ?Sized)) -> Result<T, String> {
        self.say(serde_json::to_string(what).map_err(|e| e.to_string())?)
    }

    fn say_reset(&mut self) -> Result<(), String> {
        match self.say(r#"{"do":"reset"}"#.to_owned())? {
            Outcome::Done => Ok(()),
            other => Err(format!("{self} cannot begin again: {other:?}")),
        }
    }
}

impl Subject for Pipe {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn can(&self) -> Can {
        self.can
    }

    fn unasked(&self) -> &[String] {
        &self.unasked
    }

    fn reset(&mut self) -> Result<(), String> {
        if self.running.is_some() && self.say_reset().is_ok() {
            return Ok(());
        }
        self.restart()?;
        self.say_reset()
    }

    fn perform(&mut self, step: &Step) -> Outcome {
        self.say_json(step).unwrap_or_else(|message| Outcome::Failed { message })
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let message = match self.say_json::<Vec<Answer>>(questions) {
            Ok(answers) if answers.len() == questions.len() => return answers,
            Ok(answers) => format!("{self} gave {} answers to {} questions", answers.len(), questions.len()),
            Err(message) => message,
        };
        vec![Answer::Failed { message }; questions.len()]
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}", self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))?;
        f.write_str("`")
    }
}

/// The program, and the threads that talk to it.
struct Running {
    child: Child,
    to_say: Option<Sender<String>>,
    answers: Receiver<Result<Vec<u8>, String>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    /// Closed when stderr has been read to its end.
    stderr_ended: Receiver<()>,
}

impl Running {
    fn start(program: &str, arguments: &[String], limits: Limits) -> std::io::Result<Running> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (to_say, lines) = mpsc::channel::<String>();
        if let Some(mut stdin) = child.stdin.take() {
            // If the program does not take it, the reader notices, or the time runs out.
            thread::spawn(move || lines.iter().try_for_each(|line| stdin.write_all(line.as_bytes())));
        }
        let (answered, answers) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_answers(stdout, limits.line_bytes, &answered));
        }
        let last_words = Arc::default();
        let (stderr_open, stderr_ended) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            let last_words = Arc::clone(&last_words);
            thread::spawn(move || {
                listen(stderr, &last_words);
                drop(stderr_open);
            });
        }
        Ok(Running { child, to_say: Some(to_say), answers, last_words, stderr_ended })
    }

    /// The event, and how the program ended, if it has.
    fn and_ended(&mut self, what: String) -> String {
        match self.wait(GRACE) {
            Some(status) => format!("{what} and ended with {status}"),
            None => what,
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let begin = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(None) if begin.elapsed() < limit => thread::sleep(Duration::from_millis(2)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Talk for Running {
    fn say(&mut self, mut line: String, limits: Limits) -> Result<Vec<u8>, String> {
        match self.answers.try_recv() {
            Ok(Ok(unasked)) => return Err(format!("spoke before it was asked: {}", shown(&unasked))),
            Ok(Err(what)) => return Err(self.and_ended(what)),
            Err(_) => {}
        }
        line.push('\n');
        if let Some(to_say) = &self.to_say {
            // A writer that is gone has met a closed stdin; what became of the program, the reader hears.
            let _ = to_say.send(line);
        }
        match self.answers.recv_timeout(limits.patience) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(what)) => Err(self.and_ended(what)),
            Err(RecvTimeoutError::Timeout) => Err(format!("gave no answer for {:?}", limits.patience)),
            Err(RecvTimeoutError::Disconnected) => Err(self.and_ended("closed its stdout".to_owned())),
        }
    }

    fn end(mut self: Box<Self>) -> String {
        let _ = self.child.kill();
        // Its children may still run, and hold its stderr open.
        let _ = self.stderr_ended.recv_timeout(GRACE);
        let last_words = self.last_words.lock();
        match last_words.is_empty() {
            true => String::new(),
            false => format!("; its stderr ends with\n{}", last_words.iter().cloned().collect::<Vec<_>>().join("\n")),
        }
    }
}

impl Drop for Running {
    /// It may end by itself, and tidy up; but not without a limit.
    fn drop(&mut self) {
        self.to_say = None;
        if self.wait(GRACE).is_none() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The answers of a program that is gone.
struct Recorded {
    answers: Arc<[u8]>,
    at: usize,
}

impl Talk for Recorded {
    fn say(&mut self, _: String, limits: Limits) -> Result<Vec<u8>, String> {
        let line = read_line(&mut &self.answers[self.at..], limits.line_bytes)?;
        self.at += line.len();
        Ok(line)
    }

    fn end(self: Box<Self>) -> String {
        String::new()
    }
}

fn read_line(from: &mut impl BufRead, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let read = from.by_ref().take(bytes_max as u64 + 1).read_until(b'\n', &mut line);
    match read {
        Ok(_) if line.last() == Some(&b'\n') => Ok(line),
        Ok(_) if line.len() > bytes_max => Err(format!("said a line of more than {bytes_max} bytes")),
        Ok(0) => Err("closed its stdout".to_owned()),
        Ok(_) => Err(format!("closed its stdout in the middle of a line: {}", shown(&line))),
        Err(e) => Err(format!("cannot be read: {e}")),
    }
}

fn read_answers(stdout: impl Read, bytes_max: usize, answered: &Sender<Result<Vec<u8>, String>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let answer = read_line(&mut stdout, bytes_max);
        let over = answer.is_err();
        if answered.send(answer).is_err() || over {
            return;
        }
    }
}

/// Keeps the last lines.
fn listen(stderr: impl Read, last_words: &Mutex<VecDeque<String>>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = stderr.by_ref().take(WORDS_BYTES_MAX as u64).read_until(b'\n', &mut line) {
        let mut words = last_words.lock();
        words.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if words.len() > LAST_WORDS {
            words.pop_front();
        }
        line.clear();
    }
}

/// The beginning of what it said.
fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim_end();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], answer.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use vellum_storage::{Oid, Tid};

    use super::*;
    use crate::step::{Change, Meta};

    const LIMITS: Limits = Limits { patience: Duration::from_secs(20), line_bytes: 4096 };
    const HELLO: &str = r#"read line; echo '{"name":"a shell","can":["undo","pack"]}'; "#;

    /// A peer that says hello, and then does this.
    fn peer(script: &str, limits: Limits) -> Pipe {
        Pipe::limited("sh", &["-c".to_owned(), format!("{HELLO}{script}")], limits).unwrap()
    }

    /// The error if such a peer is to finish a transaction; and it always stays failed.
    fn fails(script: &str, limits: Limits) -> String {
        let mut pipe = peer(script, limits);
        let step = Step::Finish { transaction: 'a' };
        let Outcome::Failed { message } = pipe.perform(&step) else { panic!("that was no answer") };
        let [Answer::Failed { message: later }] = &pipe.ask(&[Question::Versions])[..] else { panic!("nor was that") };
        assert!(later.contains("is not running any more"), "{later}");
        assert!(later.contains(message.split("` ").last().unwrap()), "{later}");
        message
    }

    #[test]
    fn right_answers_come_through() {
        let script = r#"
            while read line; do case "$line" in
                '{"do":"reset"}') echo '{"is":"done"}';;
                *finish*) echo '{"is":"finished","tid":"00000000000000ff"}';;
                '['*) echo '[{"is":"key_error"},{"is":"tid","tid":"0000000000000001"}]';;
            esac; done"#;
        let mut pipe = peer(script, LIMITS);
        assert_eq!((pipe.name(), pipe.can()), ("a shell".to_owned(), Can { undo: true, pack: true, ..Can::default() }));
        pipe.reset().unwrap();
        assert_eq!(pipe.perform(&Step::Finish { transaction: 'a' }), Outcome::Finished { tid: Tid(255) });
        let questions = [Question::ModifiedInVersion { oid: Oid(1) }, Question::LastTransaction];
        assert_eq!(pipe.ask(&questions), [Answer::KeyError, Answer::Tid { tid: Tid(1) }]);
        let [Answer::Failed { message }] = &pipe.ask(&questions[..1])[..] else {
            panic!("two answers to one question")
        };
        assert!(message.contains("2 answers to 1 questions"), "{message}");
    }

    #[test]
    fn a_peer_that_dies_is_a_failure_with_its_last_words() {
        let message = fails("read line; echo 'out of ideas' >&2; exit 3", LIMITS);
        assert!(message.contains("closed its stdout and ended with exit status: 3"), "{message}");
        assert!(message.ends_with("its stderr ends with\nout of ideas"), "{message}");
    }

    #[test]
    fn a_peer_that_dies_at_once_can_not_be_started() {
        let start = |program: &str, script: &str| Pipe::start(program, &["-c".to_owned(), script.to_owned()]).err();
        let message = start("sh", "exit 7").unwrap();
        assert!(message.contains("exit status: 7"), "{message}");
        let message = start("no-such-program", "").unwrap();
        assert!(message.starts_with("`no-such-program -c ` cannot be started: "), "{message}");
        let message = start("sh", r#"read line; echo '{"name":"x","can":["fly"]}'; read line"#).unwrap();
        assert!(message.contains("unknown capability `fly`"), "{message}");
    }

    #[test]
    fn garbage_is_a_failure() {
        let message = fails("read line; echo 'Traceback: alas'; read line", LIMITS);
        assert!(message.contains("said what is no answer (expected value at line 1 column 1): Traceback"), "{message}");
        let message = fails(r#"read line; printf '{"is":'"#, LIMITS);
        assert!(message.contains(r#"in the middle of a line: {"is":"#), "{message}");
    }

    #[test]
    fn a_line_without_end_is_a_failure() {
        let message = fails("read line; exec cat /dev/zero", LIMITS);
        assert!(message.contains("said a line of more than 4096 bytes"), "{message}");
    }

    #[test]
    fn an_answer_without_a_question_is_a_failure() {
        let script = r#"read line; printf '{"is":"done"}\n{"is":"done"}\n'; read line"#;
        let mut running = Running::start("sh", &["-c".to_owned(), script.to_owned()], LIMITS).unwrap();
        running.say("finish".to_owned(), LIMITS).unwrap();
        // Both lines came in one piece, and are read in one; but the reader may be a moment behind.
        let second = running.answers.recv().unwrap();
        let (to, from) = mpsc::channel();
        to.send(second).unwrap();
        running.answers = from;
        let message = running.say("finish".to_owned(), LIMITS).unwrap_err();
        assert!(message.contains("spoke before it was asked"), "{message}");
    }

    #[test]
    fn a_recording_answers_until_it_ends() {
        let answers = b"{\"name\":\"gone\",\"can\":[\"undo\"]}\n{\"is\":\"done\"}\n{\"is\":\"done\"}\n{\"is";
        let mut pipe = Pipe::recorded(answers).unwrap();
        assert_eq!((pipe.name(), pipe.can()), ("gone".to_owned(), Can { undo: true, ..Can::default() }));
        pipe.reset().unwrap();
        assert_eq!(pipe.perform(&Step::Finish { transaction: 'a' }), Outcome::Done);
        let Outcome::Failed { message } = pipe.perform(&Step::Finish { transaction: 'a' }) else { panic!("it ended") };
        assert!(message.contains("in the middle of a line"), "{message}");
        pipe.reset().unwrap();
        assert!(Pipe::recorded(b"").is_err());
    }

    #[test]
    fn silence_is_a_failure() {
        let patience = Duration::from_millis(200);
        // Nor does it read its lines, which are more than a pipe holds.
        let mut pipe = peer("exec sleep 30", Limits { patience: LIMITS.patience, ..LIMITS });
        pipe.limits.patience = patience;
        let begin = Instant::now();
        let questions = vec![Question::Versions; 100_000];
        let answers = pipe.ask(&questions);
        assert_eq!(answers.len(), questions.len());
        let Answer::Failed { message } = &answers[0] else { panic!("it sleeps") };
        assert!(message.contains("gave no answer for 200ms"), "{message}");
        assert!(begin.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn who_answers_while_he_is_spoken_to_blocks_nobody() {
        // `cat` gives a line back while it is still being written.
        let mut pipe = peer("exec cat", Limits { line_bytes: LINE_BYTES_MAX, ..LIMITS });
        let line = format!("\"{}\"", "x".repeat(4 << 20));
        assert_eq!(pipe.say::<String>(line).unwrap().len(), 4 << 20);
    }

    #[test]
    fn after_a_failure_a_reset_starts_it_anew() {
        let script = r#"read line; echo '{"is":"done"}'; read line; echo nonsense; read line"#;
        let mut pipe = peer(script, LIMITS);
        for _ in 0..3 {
            pipe.reset().unwrap();
            assert!(matches!(pipe.perform(&Step::Finish { transaction: 'a' }), Outcome::Failed { .. }));
        }
        // And one that dies while it is idle.
        let mut pipe = peer(r#"read line; echo '{"is":"done"}'"#, LIMITS);
        pipe.reset().unwrap();
        pipe.reset().unwrap();
    }

    #[test]
    fn steps_are_lines_that_a_person_reads() {
        let line = |step: &Step| serde_json::to_string(step).unwrap();
        let meta = Meta { user: "ada".to_owned(), extension: true, ..Meta::default() };
        assert_eq!(
            line(&Step::Begin { transaction: 'a', meta }),
            r#"{"do":"begin","transaction":"a","user":"ada","description":"","extension":"80037d58010000006b4b01732e","tid":null,"packed":false}"#
        );
        let store = Change::Store { oid: Oid(1), serial: Tid(2), node: None, version: String::new() };
        assert_eq!(
            line(&Step::Change { transaction: 'a', change: store }),
            r#"{"do":"change","transaction":"a","change":"store","oid":"0000000000000001","serial":"0000000000000002","data":"","version":""}"#
        );
        let restore = Change::Restore { oid: Oid(1), node: None, version: String::new(), source: None, base: None };
        assert_eq!(
            line(&Step::Change { transaction: 'a', change: restore }),
            r#"{"do":"change","transaction":"a","change":"restore","oid":"0000000000000001","data":null,"version":"","source":null,"under":null}"#
        );
    }
}
