//! `vellum serve` for operators: its port, its signals, its log.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A server, which is ended whatever happens.
struct Server {
    process: Child,
    address: String,
    monitor: String,
}

impl Server {
    fn start(file: &std::path::Path) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_vellum"))
            .arg("serve")
            .arg(file)
            .args(["--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0", "--log-format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        let mut told = BufReader::new(process.stderr.as_mut().unwrap());
        let monitor = loop {
            line.clear();
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "it does not say where operators ask");
            if let Some((_, address)) = line.split_once("vellum status ") {
                break address.trim().to_owned();
            }
        };
        Server { process, address, monitor }
    }

    fn status(&self, more: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_vellum")).args(["status", &self.monitor]).args(more).output().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its exit code, and what it still told.
    fn end(mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (self.process.wait().unwrap().code(), told)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn operators_see_a_server_and_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("Data.fs"));
    for _ in 0..3 {
        drop(std::net::TcpStream::connect(&server.address).unwrap());
    }
    // A signal that ends other programs.
    server.signal(Signal::HUP);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let shown = server.status(&[]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{text}");
    for wanted in ["serving, up ", "storage 1", "port checks   3", "0 clients"] {
        assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
    }
    let json: serde_json::Value = serde_json::from_slice(&server.status(&["--json"]).stdout).unwrap();
    assert_eq!((&json["state"], &json["port_checks"]), (&"serving".into(), &3.into()));
    server.signal(Signal::TERM);
    let (code, told) = server.end();
    assert_eq!(code, Some(0));
    let lines: Vec<serde_json::Value> =
        told.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect();
    let checks = lines.iter().filter(|line| line["message"].as_str().unwrap().contains("without a message"));
    assert_eq!(checks.count(), 1, "{told}");
    assert_eq!(lines.last().unwrap()["port_checks"], 3, "{told}");
}

#[test]
fn where_nobody_answers_there_is_no_status() {
    let asked = Command::new(env!("CARGO_BIN_EXE_vellum")).args(["status", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&asked.stderr).contains("no status from 127.0.0.1:1"));
}
