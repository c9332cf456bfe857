//! Our client and the real `runzeo`: histories through `RemoteStorage`, every answer as the rules have it.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Ground, Trouble, ensure};
use crate::venv;

/// The differences of ZODB's FileStorage, as `campaign::kind` names them; docs/findings/filestorage.md has them. All
/// others are new.
const KNOWN: [&str; 5] = [
    // Any serial will do for an object that is not there.
    "vote: refused: conflict on , which is at @, not @ | voted",
    // Undo of a transaction with several records of one object writes as many.
    "last_invalidations: @: | @:",
    // A transaction of nothing at the beginning of the file is in no undo log.
    "undo_log: @",
    // ZODB does not see that an object is a tombstone as before, if it is one by way of two undos.
    "vote: voted | refused: the undo would take back more, of",
    // The harness tells this server the tid with the vote. By the rules the clock counts at the finish, and a vote in
    // between has moved it.
    "finish: finished @ | finished @",
];

#[derive(Deserialize)]
struct Answer {
    histories: u64,
    steps: u64,
    answers: u64,
    found: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    times: u64,
    kind: String,
    script: String,
}

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let cases = (ground.histories / 10).max(2).to_string();
    let mut shown = Vec::new();
    for codec in ["pickle", "msgpack"] {
        let server = Server::start(ground, codec)?;
        let mut command = Command::new(venv::program("vellum-prove")?);
        command.args(["--connect", &server.address]);
        command.args([
            "--steps",
            "12",
            "--cases",
            &cases,
            "--seed",
            &ground.seed.to_string(),
            "--keep-going",
            "--json",
        ]);
        let output = command.output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", said()))?;
        let is_known = |kind: &str| KNOWN.iter().any(|known| kind.starts_with(known));
        if let Some(found) = answer.found.iter().find(|found| !is_known(&found.kind)) {
            return Err(format!("{codec}: {}\n{}", found.kind, found.script).into());
        }
        ensure(answer.histories.to_string() == cases, || "not all histories were played".to_owned())?;
        let known: u64 = answer.found.iter().map(|found| found.times).sum();
        let Answer { histories, steps, answers, .. } = answer;
        shown.push(format!(
            "{codec}: {histories} histories of {steps} steps with {answers} answers, {known} with a difference that is known"
        ));
    }
    Ok(shown.join("; "))
}

/// A `runzeo` with an empty FileStorage.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(ground: &Ground, codec: &str) -> Result<Server, Trouble> {
        let folder = ground.path(&format!("remote-{codec}"));
        std::fs::create_dir_all(&folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let (msgpack, file) = (codec == "msgpack", folder.join("Data.fs"));
        let conf = format!(
            "<zeo>\n  address {address}\n  msgpack {msgpack}\n</zeo>\n<filestorage 1>\n  path {}\n</filestorage>\n",
            file.display()
        );
        let path = folder.join("zeo.conf");
        std::fs::write(&path, conf)?;
        let mut command = Command::new(ground.python.with_file_name("runzeo"));
        command.arg("-C").arg(&path).current_dir(&folder).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server { child: command.spawn()?, address };
        let begun = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            ensure(begun.elapsed() < Duration::from_secs(30), || "runzeo does not listen".to_owned())?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
