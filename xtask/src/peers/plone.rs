//! A Plone site with two instances, on `runzeo` and on `vellum serve`: see `xtask/peer/plone.py`.

use std::process::Command;

use super::{Ground, Trouble, ensure};
use crate::venv;

/// Has both servers serve the same site. To install Plone takes minutes, so this is among what `--everything` asks for.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    if !ground.everything {
        return Ok("left out, --everything runs it".to_owned());
    }
    let python = venv::python_of_plone()?;
    let servers = [
        ("runzeo", format!("{} -m ZEO.runzeo -C {{conf}}", python.display())),
        ("vellum serve", format!("{} serve --config {{conf}}", venv::vellum()?.display())),
    ];
    let mut shown = Vec::new();
    for (name, server) in servers {
        let folder = ground.path(name.split(' ').next().unwrap_or(name));
        let output = Command::new(&python).arg(venv::script("plone.py")).args([&server]).arg(&folder).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure(output.status.success(), || format!("{name}: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
        shown.push(format!("{name}: {}", said.trim_end().replace('\n', "; ")));
    }
    Ok(shown.join(". "))
}
