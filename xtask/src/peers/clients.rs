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
