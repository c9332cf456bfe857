//! The server's own configuration, in TOML: the same words as in `zeo.conf`, and what that has no words for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::meaning::level_named;
use super::plan::INVALIDATION_QUEUE_SIZE;
use super::values::{ADDRESS, seconds};
use super::{
    BlobLayout, ConfError, EventLog, FileStorageConf, LogFile, LogFormat, LogTarget, Place, Plan, Rotation, Source,
    StorageConf, Syncs, Tls,
};
use crate::Address;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    listen: Vec<Spanned<String>>,
    #[serde(default)]
    read_only: bool,
    invalidation_queue_size: Option<u32>,
    invalidation_age: Option<Spanned<f64>>,
    transaction_timeout: Option<Spanned<f64>>,
    pid_filename: Option<PathBuf>,
    #[serde(default)]
    client_conflict_resolution: bool,
    msgpack: Option<bool>,
    ssl: Option<Spanned<Ssl>>,
    storages: Spanned<BTreeMap<String, Storage>>,
    eventlog: Option<Log>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Ssl {
    certificate: PathBuf,
    key: Option<PathBuf>,
    authenticate: PathBuf,
}

#[derive(Deserialize)]
enum Storage {
    #[serde(rename = "filestorage")]
    File(Spanned<FileStorage>),
    #[serde(rename = "mappingstorage")]
    Mapping(Mapping),
    #[serde(rename = "demostorage")]
    Demo(Demo),
    #[serde(rename = "zlibstorage")]
    Zlib(Spanned<Zlib>),
    #[serde(rename = "serverzlibstorage")]
    ServerZlib(Spanned<Zlib>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileStorage {
    path: PathBuf,
    #[serde(alias = "blobs")]
    blob_dir: Option<PathBuf>,
    blob_layout: Option<Layout>,
    #[serde(default)]
    create: bool,
    #[serde(default)]
    read_only: bool,
    quota: Option<u64>,
    pack_gc: Option<bool>,
    pack_keep_old: Option<bool>,
    #[serde(default)]
    durability: Durability,
    #[serde(default)]
    history_free: bool,
    /// In seconds.
    grace: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Layout {
    Bushy,
    Lawn,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Durability {
    #[default]
    Full,
    Relaxed,
    Journal,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Demo {
    name: Option<String>,
    base: Option<Box<Storage>>,
    changes: Option<Box<Storage>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Zlib {
    compress: Option<bool>,
    base: Box<Storage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    level: Option<Spanned<Level>>,
    #[serde(default)]
    logfile: Vec<LogTo>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Level {
    Name(String),
    Number(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LogTo {
    path: Spanned<String>,
    level: Option<Spanned<Level>>,
    format: Option<Spanned<String>>,
    dateformat: Option<String>,
    #[serde(default)]
    max_size: u64,
    #[serde(default)]
    old_files: u64,
    when: Option<String>,
    interval: Option<u64>,
}

impl Plan {
    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no TOML; a key is not known, is missing, or has a value of another kind. The
    /// error names the line.
    pub fn of_toml(path: &Path, source: &dyn Source) -> Result<Plan, ConfError> {
        let file: Arc<Path> = path.into();
        let whole = Place { file: Arc::clone(&file), line: 0 };
        let text = source.read(path);
        let text =
            text.map_err(|error| ConfError { place: whole.clone(), why: format!("it cannot be read: {error}") })?;
        let lines = Lines { file, text: &text };
        let read: File = toml::from_str(&text).map_err(|error| match error.span() {
            Some(span) => lines.error(span.start, error.message()),
            None => ConfError { place: whole, why: error.message().to_owned() },
        })?;
        lines.plan(read)
    }
}

/// The text, to find lines in it.
struct Lines<'a> {
    file: Arc<Path>,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().iter().take(at);
        Place { file: Arc::clone(&self.file), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    }

    fn error(&self, at: usize, why: impl Into<String>) -> ConfError {
        ConfError { place: self.place(at), why: why.into() }
    }

    fn plan(&self, file: File) -> Result<Plan, ConfError> {
        let address = |address: Spanned<String>| {
            let wrong = || self.error(address.span().start, format!("{:?} is not {ADDRESS}", address.get_ref()));
            Address::parse(address.get_ref()).ok_or_else(wrong)
        };
        let at = file.storages.span().start;
        let storages = file.storages.into_inner().into_iter();
        let storages = storages.map(|(name, storage)| Ok((name, self.storage(storage)?)));
        let plan = Plan {
            addresses: file.listen.into_iter().map(address).collect::<Result<_, _>>()?,
            read_only: file.read_only,
            invalidation_queue_size: file.invalidation_queue_size.map_or(INVALIDATION_QUEUE_SIZE, u64::from),
            invalidation_age: self.time(file.invalidation_age)?,
            transaction_timeout: self.time(file.transaction_timeout)?,
            pid_file: file.pid_filename,
            clients_resolve: file.client_conflict_resolution,
            msgpack: file.msgpack,
            tls: file.ssl.map(|ssl| self.tls(ssl)),
            storages: storages.collect::<Result<_, _>>()?,
            event_log: file.eventlog.map(|log| self.log(log)).transpose()?,
            ignored: Vec::new(),
        };
        if plan.storages.is_empty() {
            return Err(self.error(at, "there is no storage"));
        }
        if plan.addresses.is_empty() {
            return Err(self.error(0, "listen names no address"));
        }
        Ok(plan)
    }

    fn time(&self, value: Option<Spanned<f64>>) -> Result<Option<Duration>, ConfError> {
        let time = |value: Spanned<f64>| {
            let wrong = || self.error(value.span().start, "not a number of seconds, at most 1000000000");
            seconds(*value.get_ref()).ok_or_else(wrong)
        };
        value.map(time).transpose()
    }

    fn tls(&self, ssl: Spanned<Ssl>) -> Tls {
        let place = self.place(ssl.span().start);
        let Ssl { certificate, key, authenticate } = ssl.into_inner();
        Tls { certificate, key, authenticate, place }
    }

    fn storage(&self, storage: Storage) -> Result<StorageConf, ConfError> {
        Ok(match storage {
            Storage::File(file) => {
                let at = file.span().start;
                let file = file.into_inner();
                if file.create && file.read_only {
                    return Err(self.error(at, "create makes the file anew, and read-only forbids that: leave out one"));
                }
                if file.blob_layout.is_some() && file.blob_dir.is_none() {
                    return Err(
                        self.error(at, "blob-layout is how the files in blobs are laid out, and there is no blobs")
                    );
                }
                StorageConf::File(FileStorageConf {
                    path: file.path,
                    blob_dir: file.blob_dir,
                    blob_layout: file.blob_layout.map(|layout| match layout {
                        Layout::Bushy => BlobLayout::Bushy,
                        Layout::Lawn => BlobLayout::Lawn,
                    }),
                    create: file.create,
                    read_only: file.read_only,
                    quota: file.quota,
                    pack_gc: file.pack_gc.unwrap_or(true),
                    pack_keep_old: file.pack_keep_old.unwrap_or(true),
                    durability: match file.durability {
                        Durability::Full => Syncs::Full,
                        Durability::Relaxed => Syncs::Relaxed,
                        Durability::Journal => Syncs::Journal,
                    },
                    history_free: file.history_free,
                    grace: file.grace.map(|seconds| Duration::from_secs(seconds.into())),
                })
            }
            Storage::Mapping(Mapping { name }) => {
                StorageConf::Mapping { title: name.unwrap_or_else(|| "Mapping Storage".to_owned()) }
            }
            Storage::Demo(Demo { name, base, changes }) => {
                let inner = |storage: Option<Box<Storage>>| {
                    storage.map(|storage| self.storage(*storage).map(Box::new)).transpose()
                };
                StorageConf::Demo { title: name, base: inner(base)?, changes: inner(changes)? }
            }
            Storage::Zlib(zlib) => self.compressed(zlib, false)?,
            Storage::ServerZlib(zlib) => self.compressed(zlib, true)?,
        })
    }

    fn compressed(&self, zlib: Spanned<Zlib>, for_clients: bool) -> Result<StorageConf, ConfError> {
        let place = self.place(zlib.span().start);
        let Zlib { compress, base } = zlib.into_inner();
        let base = Box::new(self.storage(*base)?);
        Ok(StorageConf::Compressed { compress: compress.unwrap_or(true), for_clients, base, place })
    }

    fn level(&self, level: Option<Spanned<Level>>, default: u64) -> Result<u64, ConfError> {
        let Some(level) = level else { return Ok(default) };
        let named = match level.get_ref() {
            Level::Name(name) => level_named(name),
            Level::Number(number) => level_named(&number.to_string()),
        };
        let wrong = "level is critical, error, warning, info, debug, all, or a number up to 50";
        named.ok_or_else(|| self.error(level.span().start, wrong))
    }

    fn log(&self, Log { level, logfile }: Log) -> Result<EventLog, ConfError> {
        let files = logfile.into_iter().map(|file| {
            let at = file.format.as_ref().map_or(0, |format| format.span().start);
            let format = file.format.as_ref().map_or(LogFormat::ZEO, |format| format.get_ref());
            let format = LogFormat::parse(format, file.dateformat.as_deref().unwrap_or(LogFormat::DATES));
            let to = LogTarget::of(file.path.get_ref());
            let rotation = Rotation::of(&to, file.max_size, file.old_files, file.when.as_deref(), file.interval);
            Ok(LogFile {
                to,
                rotation: rotation.map_err(|why| self.error(file.path.span().start, why))?,
                level: self.level(file.level, 0)?,
                format: format.map_err(|why| self.error(at, why))?,
            })
        });
        Ok(EventLog { level: self.level(level, 20)?, files: files.collect::<Result<_, _>>()? })
    }
}
