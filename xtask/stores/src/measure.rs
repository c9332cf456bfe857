//! Sizes on disk and in memory, and a child process for what may end it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of a store: one, or a folder; and SQLite's files beside its file.
pub fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path);
    names(path).iter().for_each(|name| drop(fs::remove_file(name)));
}

fn names(path: &Path) -> Vec<PathBuf> {
    ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", path.display()))).into()
}

/// All files at or below a path.
pub fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(names) => names.flatten().flat_map(|name| files(&name.path())).collect(),
        Err(_) => names(path).into_iter().filter(|name| name.exists()).collect(),
    }
}

/// Bytes that a store has on the disk, in units of 10^6.
pub fn on_disk_mb(path: &Path) -> f64 {
    mb(files(path).iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.blocks() * 512).sum())
}

pub fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A number of this process's status, in MiB: `VmRSS`, `RssAnon`, `VmHWM`.
pub fn status_mib(key: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Empties the page cache, if this process may.
pub fn drop_caches() {
    let _ = Command::new("sync").status();
    if fs::write("/proc/sys/vm/drop_caches", "1").is_err() {
        println!("  (the page cache stays: only root empties it)");
    }
}

/// Runs this program once more. Its output is passed on.
pub fn child(args: &[&str]) {
    let status = Command::new(std::env::current_exe().unwrap()).args(args).status().unwrap();
    if !status.success() {
        println!("    the process died: {status}");
    }
}

/// The beginning of an error.
pub fn cut(error: &str) -> String {
    error.chars().take(150).collect()
}
