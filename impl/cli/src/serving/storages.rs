//! Opening storages as a configuration describes them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vellum_blob::Layout;
use vellum_file::{Durability, FileStorage, OpenError};
use vellum_server::conf::{BlobLayout, FileStorageConf, StorageConf, Syncs};
use vellum_server::{Description, Offered, OidMark, Store};
use vellum_storage::{Compressed, Compression, MemoryStorage, Overlay, PackOptions, Resolver, Resolvers, Storage};
use vellum_table::{Autopacking, SHARE, TableStorage};
use vellum_terminal::{Failure, Run};

use super::kinds;
use crate::file::{self, tables};
use crate::ui::{args, say};

/// A storage that was opened.
struct Opened {
    storage: Arc<dyn Storage>,
    description: Description,
    /// Where its new oids are marked.
    marked_in: Option<PathBuf>,
    packing: PackOptions,
    /// The same storage, if it can be packed in the background.
    tables: Option<TableStorage>,
}

/// Opens a storage, and all that it consists of. With `keep` it is packed in the background, until the second value is
/// dropped.
pub fn offer(name: &str, conf: &StorageConf, keep: Option<Duration>) -> Run<(Offered, Option<Autopacking>)> {
    let Opened { storage, description, marked_in, packing, tables } = open(conf, Arc::new(Resolvers::built_in()))?;
    let oids = match marked_in {
        Some(path) => {
            let mark = OidMark::open(&path);
            Some(Arc::new(mark.map_err(|error| Failure::Message(format!("{}: {error}", path.display())))?))
        }
        None => None,
    };
    let store = Store { oids, packing, ..Store::new(storage) };
    let autopacking = match (keep, tables) {
        (None, _) => None,
        (Some(keep), Some(tables)) => Some(tables.autopack(keep, SHARE)?),
        (Some(_), None) => {
            let why = "--keep packs only databases in tables. Nothing was changed. Leave --keep out";
            return Err(Failure::Message(format!("{}: {why}", store.storage.name())));
        }
    };
    Ok((Offered { name: name.to_owned(), description, store }, autopacking))
}

/// Opens a storage. Changes that were made to the same object are merged by `resolver`.
fn open(conf: &StorageConf, resolver: Arc<dyn Resolver>) -> Run<Opened> {
    let packing = PackOptions::default().collect(true).keep_old(true);
    match conf {
        StorageConf::File(conf) if tables::is_or_becomes_one(&conf.path) => {
            let storage = open_tables(conf, resolver)?;
            let tables = (!conf.read_only).then(|| storage.clone());
            let storage = Arc::new(storage);
            let description = kinds::file(conf.path.display().to_string(), storage.capabilities(), conf.read_only);
            let marked_in = (!conf.read_only).then(|| beside(&conf.path, ".oids"));
            Ok(Opened {
                storage,
                description,
                marked_in,
                packing: packing.collect(conf.pack_gc).keep_old(false),
                tables,
            })
        }
        StorageConf::File(conf) => {
            let storage = Arc::new(open_file(conf, resolver)?);
            let description = kinds::file(conf.path.display().to_string(), storage.capabilities(), conf.read_only);
            let marked_in = (!conf.read_only).then(|| beside(&conf.path, ".oids"));
            let packing = packing.collect(conf.pack_gc).keep_old(conf.pack_keep_old);
            Ok(Opened { storage, description, marked_in, packing, tables: None })
        }
        StorageConf::Mapping { title } => Ok(in_memory(title, resolver)?),
        StorageConf::Demo { title, base, changes: changes_conf } => {
            if let Some(path) = changes_conf.as_ref().and_then(|conf| history_free(conf)) {
                let why =
                    "the changes of a demo must keep their history, and it is to be history-free. Nothing was changed";
                return Err(Failure::Message(format!("{}: {why}", path.display())));
            }
            let part = |conf: &Option<Box<StorageConf>>| match conf {
                Some(conf) => open(conf, Arc::new(Resolvers::built_in())),
                // ZODB's word for one that has no name.
                None => in_memory("MappingStorage", Arc::new(Resolvers::built_in())),
            };
            let (base, changes) = (part(base)?, part(changes_conf)?);
            let clock = args::clock().map_err(Failure::Message)?;
            let overlay = Overlay::with(base.storage, changes.storage, clock, resolver)?;
            let is_temporary = changes_conf.is_none();
            let description = kinds::demo(title.clone(), &base.description, &changes.description, is_temporary);
            let storage = Arc::new(overlay);
            // Its oids are somewhere at random after each start.
            Ok(Opened { storage, description, marked_in: None, packing: changes.packing, tables: None })
        }
        StorageConf::Compressed { compress, for_clients, base, .. } => {
            let compression = match (for_clients, compress) {
                (true, merged) => Compression::ByClients { merged: *merged },
                (false, true) => Compression::On,
                (false, false) => Compression::Off,
            };
            let base = open(base, compression.resolver(resolver))?;
            let storage = Arc::new(Compressed::new(base.storage, compression));
            Ok(Opened { storage, description: kinds::compressed(base.description), tables: None, ..base })
        }
    }
}

/// The file that is to be history-free.
fn history_free(conf: &StorageConf) -> Option<&Path> {
    match conf {
        StorageConf::File(conf) => conf.history_free.then_some(&conf.path),
        StorageConf::Compressed { base, .. } => history_free(base),
        StorageConf::Mapping { .. } | StorageConf::Demo { .. } => None,
    }
}

fn in_memory(title: &str, resolver: Arc<dyn Resolver>) -> Run<Opened> {
    let clock = args::clock().map_err(Failure::Message)?;
    Ok(Opened {
        storage: Arc::new(MemoryStorage::with(title, clock, resolver)),
        description: kinds::mapping(title.to_owned()),
        marked_in: None,
        packing: PackOptions::default().collect(true),
        tables: None,
    })
}

fn layout_of(layout: &BlobLayout) -> Layout {
    match layout {
        BlobLayout::Bushy => Layout::Bushy,
        BlobLayout::Lawn => Layout::Lawn,
    }
}

/// Opens a database, or makes one.
fn open_file(conf: &FileStorageConf, resolver: Arc<dyn Resolver>) -> Run<FileStorage> {
    let path = &conf.path;
    if conf.history_free || conf.grace.is_some() {
        let why = "only a database in tables is history-free, such as site.vellum. Nothing was changed";
        return Err(Failure::Message(format!("{}: {why}", path.display())));
    }
    let with_blobs = |mut options: vellum_file::Options| {
        options = conf.blob_dir.iter().fold(options, |options, folder| options.blobs(folder));
        conf.blob_layout.iter().fold(options, |options, layout| options.blob_layout(layout_of(layout)))
    };
    if conf.read_only {
        return file::open_with(path, None, with_blobs(vellum_file::Options::new()));
    }
    let options = file::options()?.resolver(resolver).durability(match conf.durability {
        Syncs::Full => Durability::Full,
        Syncs::Relaxed => Durability::Relaxed,
        Syncs::Journal => Durability::Journal,
    });
    let options = conf.quota.iter().fold(options, |options, quota| options.quota(*quota));
    if conf.create && path.exists() {
        if let Some(folder) = &conf.blob_dir {
            no_blobs_of_another(path, folder)?;
        }
        clear(path, &options)?;
    }
    let options = with_blobs(options);
    if !path.exists() {
        say(&format!("{} is new", path.display()));
        return Ok(options.create(path)?);
    }
    Ok(file::open_to_write(path, &options)?)
}

/// Opens a database in tables, or makes one.
fn open_tables(conf: &FileStorageConf, resolver: Arc<dyn Resolver>) -> Run<TableStorage> {
    let path = &conf.path;
    let refused = |why: &str| Err(Failure::Message(format!("{}: {why}. Nothing was changed", path.display())));
    if conf.durability != Syncs::Full {
        return refused("a database in tables has one durability, full: leave the other one out");
    }
    let options = tables::options()?.resolver(resolver).history_free(conf.history_free);
    let options = conf.grace.iter().fold(options, |options, grace| options.grace(*grace));
    let options = conf.quota.iter().fold(options, |options, quota| options.quota(*quota));
    let options = conf.blob_dir.iter().fold(options, |options, folder| options.blobs(folder));
    let options = conf.blob_layout.iter().fold(options, |options, layout| options.blob_layout(layout_of(layout)));
    let is_there = path.exists();
    let keeps = "grace is for history-free databases, and this one keeps its history: leave grace out, or set history-free \
                 for a new one";
    if conf.grace.is_some() && !conf.history_free && !is_there {
        return refused(keeps);
    }
    let opened = match (is_there, conf.create) {
        (true, true) => refused(
            "create is set, and it takes away only a Data.fs: remove the database yourself, or leave create out",
        ),
        (true, false) if conf.read_only => tables::told(options.read_only().open(path)),
        (true, false) => tables::told(options.open(path)),
        (false, _) if conf.read_only => refused("there is no such file, and only reading is allowed"),
        (false, _) => {
            say(&format!("{} is new", path.display()));
            tables::told(options.create(path))
        }
    }?;
    if conf.grace.is_some() && !opened.is_history_free() { refused(keeps) } else { Ok(opened) }
}

/// `create` takes the file away. A folder with blobs of it is for a person to take away.
fn no_blobs_of_another(path: &Path, folder: &Path) -> Run<()> {
    let is_used = folder.read_dir().is_ok_and(|mut names| names.next().is_some());
    match is_used {
        true => Err(Failure::Message(format!(
            "{}: create is set, and the blob folder {} is not empty. Nothing was removed. Take the folder away, or leave \
             out create",
            path.display(),
            folder.display()
        ))),
        false => Ok(()),
    }
}

/// Takes a database away, as `create` asks for: unless another process has it open.
fn clear(path: &Path, options: &vellum_file::Options) -> Run<()> {
    if let Err(in_use @ OpenError::Locked { .. }) = options.open(path).map(drop) {
        return Err(in_use.into());
    }
    say(&format!("{}: create is set, so the database that was there is removed", path.display()));
    for suffix in [".index", ".journal", ""] {
        let path = beside(path, suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::Message(format!("{}: it cannot be removed: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The file's name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
