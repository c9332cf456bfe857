//! The adapters that come with the harness: Python programs that drive other storages through a [`pipe`](crate::pipe).
//!
//! They are files beside one another in `model/harness/peer/`, over one base. They are in the binary too, so that
//! `vellum-prove` needs no working tree.

use std::path::Path;

/// A storage that has an adapter.
#[derive(Debug)]
pub struct Adapter {
    /// Its name, for `--peer` and `--storage`.
    pub name: &'static str,
    /// The storage, in a line.
    pub about: &'static str,
    /// The file of the adapter.
    pub file: &'static str,
    /// Its arguments. [`VELLUM`] stands for the path of the command `vellum`.
    pub words: &'static [&'static str],
}

/// Stands for the path of the operator's command.
pub const VELLUM: &str = "{vellum}";

macro_rules! files {
    ($($name:literal)+) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../peer/", $name)))),+];
    };
}

files! {
    "adapter.py" "before.py" "blobs.py" "compressed.py" "demo.py" "example.py" "mapping.py" "pgjsonb.py" "postgres.py"
    "rel.py" "temporary.py" "zeo_client.py" "zodb.py"
}

macro_rules! adapters {
    ($($name:literal $file:literal [$($word:expr),*] $about:literal)+) => {
        /// All of them.
        pub const ALL: &[Adapter] =
            &[$(Adapter { name: $name, about: $about, file: $file, words: &[$($word),*] }),+];
    };
}

adapters! {
    "zodb" "zodb.py" [] "the FileStorage of ZODB 6.4"
    "blobs" "blobs.py" [] "FileStorage with a folder of blobs"
    "mapping" "mapping.py" [] "MappingStorage of ZODB 6.4"
    "demo" "demo.py" ["mapping"] "DemoStorage of ZODB 6.4, changes in memory"
    "demo-file" "demo.py" ["file"] "DemoStorage, changes in a FileStorage"
    "zlib" "compressed.py" [] "zc.zlibstorage 1.2 over a FileStorage"
    "temp" "temporary.py" [] "tempstorage 6.0"
    "before" "before.py" [] "zc.beforestorage 1.0 over a FileStorage"
    "relstorage" "rel.py" ["sqlite", "history"] "RelStorage 4.3 on SQLite, with history"
    "relstorage-undo" "rel.py" ["sqlite", "history", "undo"] "the same with undo, without packs and merging"
    "relstorage-free" "rel.py" ["sqlite"] "RelStorage on SQLite, without history"
    "relstorage-pg" "rel.py" ["postgresql", "history"] "RelStorage on PostgreSQL, with history"
    "relstorage-pg-free" "rel.py" ["postgresql"] "RelStorage on PostgreSQL, without history"
    "pgjsonb" "pgjsonb.py" ["history"] "zodb-pgjsonb 1.19 on PostgreSQL, with history"
    "pgjsonb-free" "pgjsonb.py" [] "zodb-pgjsonb on PostgreSQL, without history"
    "zeo" "zeo_client.py" ["runzeo"] "two clients of ZEO 6.2 on runzeo"
    "zeo-cache" "zeo_client.py" ["runzeo", "msgpack", "cache"] "the same with msgpack and caches in files"
    "zeo-pack" "zeo_client.py" ["runzeo", "pack"] "the same with packs and merging, without undo"
    "zeo-vellum" "zeo_client.py" [VELLUM, "serve"] "two clients of ZEO 6.2 on `vellum serve`"
    "zeo-vellum-cache" "zeo_client.py" [VELLUM, "serve", "msgpack", "cache"] "the same with msgpack and caches in files"
    "zeo-vellum-pack" "zeo_client.py" [VELLUM, "serve", "pack"] "the same with packs and merging, without undo"
}

/// The adapter of this name.
pub fn named(name: &str) -> Option<&'static Adapter> {
    ALL.iter().find(|adapter| adapter.name == name)
}

/// Writes the files of all adapters to a folder.
pub fn write_to(folder: &Path) -> std::io::Result<()> {
    FILES.iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
}

impl Adapter {
    /// The arguments of Python, with the adapter's files in this folder, and the path of the command `vellum`.
    pub fn arguments(&self, folder: &Path, vellum: &str, raw: bool) -> Vec<String> {
        let words = self.words.iter().map(|word| if *word == VELLUM { vellum } else { word }.to_owned());
        let raw = raw.then(|| "--raw".to_owned());
        std::iter::once(folder.join(self.file).display().to_string()).chain(words).chain(raw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_beside_the_adapters_is_in_the_binary_and_every_adapter_has_one() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer");
        let file_name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let there = std::fs::read_dir(folder).unwrap().map(file_name).filter(|name| name.ends_with(".py"));
        let mut there: Vec<_> = there.collect();
        there.sort();
        assert_eq!(FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), there);
        assert!(ALL.iter().all(|adapter| FILES.iter().any(|(name, _)| *name == adapter.file)));
    }

    #[test]
    fn an_adapter_is_told_where_vellum_is() {
        let arguments = named("zeo-vellum").unwrap().arguments(Path::new("/a"), "/b/vellum", true);
        assert_eq!(arguments, ["/a/zeo_client.py", "/b/vellum", "serve", "--raw"]);
    }
}
