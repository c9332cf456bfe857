//! Our client and the real `runzeo`: histories through `RemoteStorage`, every answer as the rules have it.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Ground, Trouble, ensure};
use crate::venv;

/// What ZODB's FileStorage does otherwise in nearly every history (docs/findings.md): undo of what was stored twice, and of
/// nothing at the beginning.
const WITHOUT: &str = "repeat,undo,edges";

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "vellum-prove"]);
    let built = { built }.current_dir(venv::workspace()).status()?;
    ensure(built.success(), || "vellum-prove is not built".to_owned())?;
    let prove = venv::vellum()?.with_file_name("vellum-prove");
    let cases = (ground.histories / 20).max(2).to_string();
    let mut shown = Vec::new();
    for codec in ["pickle", "msgpack"] {
        let server = Server::start(ground, codec)?;
        let mut command = Command::new(&prove);
        command.args(["--connect", &server.address, "--steps", "12", "--cases", &cases, "--without", WITHOUT]);
        command.args(["--seed", &ground.seed.to_string()]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(output.status.success(), || format!("{codec}: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        let line = said.lines().find(|line| line.contains("histories,")).unwrap_or("no history").to_owned();
        shown.push(format!("{codec}: {line}"));
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
