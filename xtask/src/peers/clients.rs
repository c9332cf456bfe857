//! Real ZEO clients and `vellum serve`: see `xtask/peer/clients.py`.

use std::path::Path;
use std::process::Command;

use super::{Ground, Trouble};
use crate::venv;

/// Has Python's clients do what a site's clients do.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    of_each_kind(ground, "clients.py", &certificates)
}

/// Runs a script with `vellum serve`, under the clients of ZEO 6.2 and of the last version before it. Each has one of
/// the two codecs today, and the other one tomorrow; with `--everything` both have both. Each run has a folder of its
/// own, which is prepared before.
pub(super) fn of_each_kind(
    ground: &Ground,
    script: &str,
    prepare: &dyn Fn(&Path) -> Result<(), Trouble>,
) -> Result<String, Trouble> {
    let vellum = venv::vellum()?;
    let mut shown = Vec::new();
    for (version, python) in [("6.2", ground.python.clone()), ("5.4.1", venv::python_before_6()?)] {
        for codec in ["pickle", "msgpack"] {
            if !ground.everything && ground.codecs().contains(&codec) != (version == "6.2") {
                continue;
            }
            let folder = ground.path(&format!("{script}-{codec}-{version}"));
            std::fs::create_dir_all(&folder)?;
            prepare(&folder)?;
            let mut command = Command::new(&python);
            command.arg(venv::script(script)).arg(&vellum).arg(&folder).args([codec, version]);
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

/// Certificates for a server and a client, each its own authority's, for as long as the folder is there.
fn certificates(folder: &Path) -> Result<(), Trouble> {
    for name in ["server", "client"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem())?;
        std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem())?;
    }
    Ok(())
}
