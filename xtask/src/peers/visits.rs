//! The example of a Python program and a Rust program that count on the same object at once, through a server.

use std::process::{Command, Stdio};
use std::sync::Arc;

use vellum_file::FileStorage;

use super::{Ground, Trouble, ensure};
use crate::venv;

const VISITS: &str = "100";

pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let storage = Arc::new(FileStorage::create(ground.path("visits.fs"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (address, _server) = super::side::serve(&runtime, storage)?;
    let (host, port) = address.rsplit_once(':').ok_or("an address has a port")?;
    let program = venv::example("visits", None)?;
    let rust = |visits: &str| {
        let mut command = Command::new(&program);
        command.args([address.as_str(), visits]);
        command
    };
    // The objects are there before both begin.
    said(rust("0").output()?)?;
    let mut python = Command::new(&ground.python);
    python.arg(venv::workspace().join("impl/vellum/examples/visits.py")).args([host, port, VISITS]);
    let python = python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ours = said(rust(VISITS).output()?)?;
    let pythons = said(python.wait_with_output()?)?;
    let last = said(rust("0").output()?)?;
    ensure(last.starts_with("200 visits;"), || format!("Rust: {ours}\nPython: {pythons}\nat the end: {last}"))?;
    Ok(format!("Rust: {ours}; Python: {pythons}"))
}

/// The output of a program that succeeded.
fn said(output: std::process::Output) -> Result<String, Trouble> {
    ensure(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
