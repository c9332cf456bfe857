//! A server that runs beside a test, and a client's calls to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::Sandbox;

/// A server that runs, and is ended whatever happens.
pub struct Serving {
    child: Child,
    out: BufReader<ChildStdout>,
    addresses: Vec<String>,
}

impl Serving {
    /// Starts the command, and waits until it listens at so many addresses.
    pub fn start(command: &mut Command, addresses: usize) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut found = Vec::new();
        for _ in 0..addresses {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let Some(address) = line.trim_end().strip_prefix("listening on ") else {
                let mut why = String::new();
                child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
                panic!("{line:?}: {why}");
            };
            found.push(address.to_owned());
        }
        Serving { child, out, addresses: found }
    }

    pub fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end; returns its exit code and what it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM)
            .unwrap();
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server's description of a storage, for a client that has registered for it.
pub fn info(address: &str, storage: &str) -> String {
    let get_info = [&[0xa8][..], b"get_info", &[0x90]].concat();
    String::from_utf8_lossy(&ask(address, storage, &get_info)).into_owned()
}

/// An object's newest record, in the frame that brings it.
pub fn newest(address: &str, storage: &str, oid: u8) -> Vec<u8> {
    let bytes = |bytes: [u8; 8]| [&[0xc4, 8][..], &bytes].concat();
    let arguments = [bytes([0, 0, 0, 0, 0, 0, 0, oid]), bytes([0x7f; 8])].concat();
    ask(address, storage, &[&[0xaa][..], b"loadBefore", &[0x92], &arguments].concat())
}

/// The answer to a call: its name and its arguments, in msgpack.
pub fn ask(address: &str, storage: &str, call: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut frame = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut bytes).unwrap();
        (bytes, stream.try_clone().unwrap())
    };
    let send = |stream: &mut TcpStream, bytes: &[u8]| {
        stream.write_all(&(bytes.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
    };
    let (_, mut to) = frame();
    send(&mut to, b"M5");
    // msgpack: [1, false, "register", [storage, false]] and [2, false, name, arguments].
    let text = |text: &str| [&[0xa0 | text.len() as u8], text.as_bytes()].concat();
    send(&mut to, &[vec![0x94, 1, 0xc2], text("register"), vec![0x92], text(storage), vec![0xc2]].concat());
    frame();
    send(&mut to, &[&[0x94, 2, 0xc2][..], call].concat());
    frame().0
}

/// Whether each of these files is there.
pub fn are_there(sandbox: &Sandbox, files: &[&str]) -> Vec<bool> {
    files.iter().map(|file| sandbox.path(file).exists()).collect()
}
