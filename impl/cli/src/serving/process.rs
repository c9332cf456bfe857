//! Messages to the system about the process: a file with its number, and that it is ready.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
#[cfg(target_os = "linux")]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use vellum_server::conf::Plan;

/// The file with the process's number. It goes with this.
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file that the plan names; without one, that of a Zope instance, if the environment names one. As with
    /// ZEO, a server that only lets read has none, and one that cannot be written does not keep the server from
    /// starting.
    pub fn write(plan: &Plan) -> Option<PidFile> {
        let of_instance = || std::env::var_os("INSTANCE_HOME").map(|home| PathBuf::from(home).join("var/ZEO.pid"));
        let path = plan.pid_file.clone().or_else(of_instance).filter(|_| !plan.read_only)?;
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(PidFile { path }),
            Err(error) => {
                tracing::error!("the pid file {} cannot be written: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let mine = format!("{}\n", std::process::id());
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == mine) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Tells the service manager a state (`READY=1`), if one has started this: see sd_notify(3).
pub fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = address(&name).and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    match sent {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!("the service manager cannot be told {state}: {error}");
        }
        _ => {}
    }
}

/// A path; or, behind an @, a name that is in no folder, which only Linux has.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let [b'@', name @ ..] = name.as_bytes() {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}
