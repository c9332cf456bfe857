//! Real ZEO clients and `vellum serve`: see `xtask/peer/clients.py`.

use std::process::Command;

use super::{Ground, Trouble};
use crate::venv;

/// Has Python's clients do what a site's clients do, in both codecs.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let vellum = venv::vellum()?;
    let mut shown = Vec::new();
    for codec in ["pickle", "msgpack"] {
        let folder = ground.path(codec);
        std::fs::create_dir_all(&folder)?;
        certificates(&folder)?;
        let mut command = Command::new(&ground.python);
        command.arg(venv::script("clients.py")).arg(&vellum).arg(&folder).arg(codec);
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("{codec}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
        shown.push(format!("{codec}: {}", lines.join("; ")));
    }
    Ok(shown.join(". "))
}

/// Certificates for a server and a client, each its own authority's, for as long as the folder is there.
fn certificates(folder: &std::path::Path) -> Result<(), Trouble> {
    for name in ["server", "client"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem())?;
        std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem())?;
    }
    Ok(())
}
