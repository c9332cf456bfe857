//! Real ZEO clients with blobs, and `vellum serve`: see `xtask/peer/blob_clients.py`.

use std::process::Command;

use super::{Ground, Trouble};
use crate::venv;

/// Has Python's clients do with blobs what a site's clients do: those of ZEO 6.2, and the last ones before it, in both
/// codecs.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let vellum = venv::vellum()?;
    let mut shown = Vec::new();
    for (version, python) in [("6.2", ground.python.clone()), ("5.4.1", venv::python_before_6()?)] {
        for codec in ["pickle", "msgpack"] {
            let folder = ground.path(&format!("blobs-{codec}-{version}"));
            std::fs::create_dir_all(&folder)?;
            let mut command = Command::new(&python);
            command.arg(venv::script("blob_clients.py")).arg(&vellum).arg(&folder).args([codec, version]);
            let output = command.output()?;
            if !output.status.success() {
                return Err(format!("ZEO {version}, {codec}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
            shown.push(format!("ZEO {version}, {codec}: {}", lines.join("; ")));
        }
    }
    Ok(shown.join(". "))
}
