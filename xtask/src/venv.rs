//! The tools of the tasks: the virtual environment with the real ZODB, under `target/`, and the operator's command.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Between two tries to install packages.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(20);

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where tasks keep what they make: under the target folder that cargo uses.
pub fn workshop(name: &str) -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let path = target.join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// The files of the workspace, relative to its folder: committed ones, and ones that git does not ignore.
pub fn tree() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    tree_of(&workspace())
}

/// The files of another working tree of the repository, as [`tree`] has them.
pub fn tree_of(root: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(root).output()?;
    if !listed.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr)).into());
    }
    let names = String::from_utf8(listed.stdout)?;
    let is_file = |name: &&str| !name.is_empty() && root.join(name).is_file();
    Ok(names.split('\0').filter(is_file).map(str::to_owned).collect())
}

/// A script of ours that runs under the peer's Python.
pub fn script(name: &str) -> PathBuf {
    workspace().join("xtask/peer").join(name)
}

/// The Python that has ZODB, after making sure that it is there.
pub fn python() -> Result<PathBuf, Box<dyn std::error::Error>> {
    python_with("venv", "requirements.txt")
}

/// The Python that has the last ZODB and ZEO before version 6.
pub fn python_before_6() -> Result<PathBuf, Box<dyn std::error::Error>> {
    python_with("venv-5", "requirements-5.txt")
}

/// The Python that has Plone, and ZEO.
pub fn python_of_plone() -> Result<PathBuf, Box<dyn std::error::Error>> {
    python_with("venv-plone", "requirements-plone.txt")
}

/// The Python that has libcachesim, and ZEO.
pub fn python_of_caches() -> Result<PathBuf, Box<dyn std::error::Error>> {
    python_with("venv-caches", "requirements-caches.txt")
}

/// The Python that has a storage with an adapter, by the adapter's name.
pub fn python_of(storage: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let apart = ["relstorage", "pgjsonb", "temp", "before"];
    match apart.into_iter().find(|name| storage.starts_with(name)) {
        Some("relstorage") => python_with("venv-relstorage", "requirements-relstorage.txt"),
        // It asks for Python 3.12, and works with 3.11.
        Some("pgjsonb") => python_with("venv-pgjsonb", "requirements-pgjsonb.txt"),
        Some(_) => python_with("venv-layers", "requirements-layers.txt"),
        None => python(),
    }
}

fn python_with(name: &str, requirements: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let wanted = std::fs::read_to_string(script(requirements))?;
    let venv = workshop("peer")?.join(name);
    let python = venv.join("bin/python");
    let mark = venv.join("installed.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    eprintln!("setting up the real ZODB in {}", venv.display());
    succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    // A file says so in its first line, if its packages work with an older Python than they ask for.
    pip.extend(wanted.starts_with("# Any Python").then_some("--ignore-requires-python"));
    pip.push("-r");
    let install = || succeed(Command::new(&python).args(&pip).arg(script(requirements)));
    // A registry that did not answer may do so a moment later.
    install().or_else(|error| {
        eprintln!("{error}; once more");
        std::thread::sleep(PAUSE);
        install()
    })?;
    std::fs::write(&mark, wanted)?;
    Ok(python)
}

/// Builds the operator's command, and returns where it is.
pub fn vellum() -> Result<PathBuf, Box<dyn std::error::Error>> {
    program("vellum")
}

/// Builds a program of the workspace as xtask itself was built, and returns where it is: `cargo xtask` has all
/// optimisation, and `.ci/run` that of the tests. `--workspace` gives all programs the same features of the crates that
/// they share, so that these are built once.
pub fn program(name: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let (folder, release) = if cfg!(debug_assertions) { ("debug", None) } else { ("release", Some("--release")) };
    build(["build", "--quiet", "--workspace", "--bin", name].into_iter().chain(release))?;
    Ok(target()?.join(folder).join(name))
}

/// Builds an example of any crate, and returns where it is. Without more features, `cargo test --workspace` has
/// built it.
pub fn example(name: &str, more: Option<&str>) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let more = more.map(|feature| ["--features", feature]);
    build(["build", "--quiet", "--workspace", "--example", name].into_iter().chain(more.into_iter().flatten()))?;
    Ok(target()?.join("debug/examples").join(name))
}

fn target() -> std::io::Result<PathBuf> {
    let peer = workshop("peer")?;
    Ok(peer.parent().unwrap_or(&peer).to_owned())
}

fn build<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(arguments).current_dir(workspace());
    // `cargo run` describes xtask by these. Build scripts that read them would run again, and all that depends on them.
    std::env::vars_os().map(|(name, _)| name).filter(|name| is_of_package(name)).for_each(|name| {
        build.env_remove(name);
    });
    succeed(&mut build)
}

/// Whether cargo sets this variable for the package that it runs.
fn is_of_package(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start))
}

/// Runs a command; anything but success is an error that names it.
pub fn succeed(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}
