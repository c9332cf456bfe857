//! The servers that are timed: ours, ZEO's, and one that only answers.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vellum_wire::Codec;

use super::client::Client;
use crate::bench::Trouble;
use crate::venv;

const START_MAX: Duration = Duration::from_secs(60);

/// A server in a process of its own, which ends with this.
pub struct Server {
    child: Child,
    pub address: String,
}

/// How often a commit of ours syncs. ZODB's does once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    One,
    Two,
    /// Once, in a journal: commits that come together share the sync.
    Journal,
}

impl Server {
    /// `vellum serve`.
    pub fn ours(file: &Path, syncs: Syncs) -> Result<Server, Trouble> {
        Server::serve(file, syncs, &[])
    }

    /// The same with a blob folder, and ZODB's one sync.
    pub fn with_blobs(file: &Path, blobs: &Path) -> Result<Server, Trouble> {
        Server::serve(file, Syncs::One, &["--blobs".as_ref(), blobs.as_os_str()])
    }

    fn serve(file: &Path, syncs: Syncs, more: &[&OsStr]) -> Result<Server, Trouble> {
        let durability = match syncs {
            Syncs::One => "relaxed",
            Syncs::Two => "full",
            Syncs::Journal => "journal",
        };
        let mut command = Command::new(venv::vellum()?);
        command.arg("serve").arg(file).args(["--listen", "127.0.0.1:0", "--durability", durability]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let mut server = Server { child, address: String::new() };
        server.address = address.ok_or_else(|| format!("vellum serve says {line:?}"))?;
        Ok(server)
    }

    /// `runzeo`, which takes uvloop if it is installed.
    pub fn runzeo(python: &Path, file: &Path) -> Result<Server, Trouble> {
        let address = free_address()?;
        let mut command = Command::new(python);
        command.args(["-m", "ZEO.runzeo", "-a", &address, "-f"]).arg(file);
        Server::await_runzeo(command, address, file)
    }

    /// The same with a blob folder.
    pub fn runzeo_with_blobs(python: &Path, file: &Path, blobs: &Path) -> Result<Server, Trouble> {
        let address = free_address()?;
        let conf = file.with_extension("conf");
        let text = format!(
            "<zeo>\n  address {address}\n</zeo>\n<filestorage 1>\n  path {}\n  blob-dir {}\n</filestorage>\n",
            file.display(),
            blobs.display()
        );
        std::fs::write(&conf, text)?;
        let mut command = Command::new(python);
        command.args(["-m", "ZEO.runzeo", "-C"]).arg(conf);
        Server::await_runzeo(command, address, file)
    }

    fn await_runzeo(mut command: Command, address: String, file: &Path) -> Result<Server, Trouble> {
        let log = File::create(file.with_extension("log"))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        let mut server = Server { child, address };
        let started = Instant::now();
        while Client::connect(&server.address, Codec::Pickle).is_err() {
            if started.elapsed() > START_MAX || server.child.try_wait()?.is_some() {
                return Err(format!("runzeo does not start: see {}", file.with_extension("log").display()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Bytes in memory now, and at most so far. (Linux alone.)
    pub fn memory(&self) -> Result<(u64, u64), Trouble> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map(|kilobytes| kilobytes << 10)
        };
        bytes("VmRSS:").zip(bytes("VmHWM:")).ok_or_else(|| "the system does not say what a process takes".into())
    }

    /// Its processor time so far. (Linux alone, in steps of 10 ms.)
    pub fn processor(&self) -> Result<Duration, Trouble> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name before these may hold anything but a closing bracket at its end.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|ticks| ticks.parse::<u64>().ok()).ok_or("no times of a process");
        Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
    }

    /// The highest mark of its memory is a new one from here.
    pub fn forget_peak(&self) {
        // Where this cannot be done, the mark is that of the whole run: never too low.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }
}

/// An address that was free a moment ago.
fn free_address() -> Result<String, Trouble> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bare limit of a round trip: a thread for each connection that reads a frame and answers with one of as many
/// bytes, and does nothing else. It ends when its clients do.
pub fn echo(connections: usize) -> Result<String, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections).flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

/// Sends back what arrives.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
