//! `vellum-stores WHAT [STORE...]`: compares embedded stores with each other, and with a bare append.
//!
//! [README.md](../README.md) lists the measurements. `stores.rs` has the tables, `workload.rs` the database; each
//! measurement has a file. An error of a store ends the program, unless the measurement is about errors.

mod churn;
mod damage;
mod full;
mod kill;
mod measure;
mod memory;
mod second;
mod speed;
mod stores;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};

/// The cache that each store gets, if it has one.
const CACHE_BYTES: usize = 32 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["committing", name, dir, first] => return kill::committing(name, Path::new(dir), first.parse().unwrap()),
        ["damage-child", name, dir, how] => return damage::damage_child(name, Path::new(dir), how),
        ["memory-fill", name, dir] => return memory::memory_fill(name, Path::new(dir)),
        ["memory-use", name, dir] => return memory::memory_use(name, Path::new(dir)),
        ["second-child", name, dir] => return second::second_child(name, Path::new(dir)),
        _ => {}
    }
    let measurement: fn(&str, &Path) = match args.first() {
        Some(&"speed") => speed::speed,
        Some(&"churn") => churn::churn,
        Some(&"memory") => memory::memory,
        Some(&"kill") => kill::kill,
        Some(&"full") => full::full,
        Some(&"damage") => damage::damage,
        Some(&"second") => second::second,
        _ => {
            eprintln!("vellum-stores speed|churn|memory|kill|full|damage|second [STORE...]");
            std::process::exit(2);
        }
    };
    let dir = PathBuf::from(std::env::var("STORES_DIR").unwrap_or("target/stores".to_owned()));
    fs::create_dir_all(&dir).unwrap();
    let is_speed = args[0] == "speed";
    if is_speed {
        speed::bare(&dir);
    }
    let names = if args.len() > 1 { &args[1..] } else { stores::NAMES };
    names.iter().for_each(|name| measurement(name, &dir));
    if is_speed {
        // Once more: the machine may have changed.
        speed::bare(&dir);
    }
}
