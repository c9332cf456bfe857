//! What the words of `zeo.conf` mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfError, Key, Section, Source, zconfig};
use crate::Address;

/// A `zeo.conf`.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeoConf {
    /// Where to listen.
    pub address: Address,
    /// Whether clients may only read.
    pub read_only: bool,
    /// So many transactions are remembered for clients that were away.
    pub invalidation_queue_size: u64,
    /// Clients that were away no longer than this are told what they missed even so.
    pub invalidation_age: Option<Duration>,
    /// A transaction that is voted and not finished is aborted after this.
    pub transaction_timeout: Option<Duration>,
    /// Where the number of the process is written.
    pub pid_file: Option<PathBuf>,
    /// Whether clients merge what the server cannot.
    pub clients_resolve: bool,
    /// Whether clients are asked to speak msgpack; if it does not say, the environment does.
    pub msgpack: Option<bool>,
    /// Certificates.
    pub tls: Option<Tls>,
    /// The storages, by the names that clients call them.
    pub storages: Vec<(String, StorageConf)>,
    /// Where logs go.
    pub event_log: Option<EventLog>,
    /// What it asks for and is not done, one sentence each.
    pub ignored: Vec<String>,
}

/// The section `ssl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key, unless the certificate's file has it.
    pub key: Option<PathBuf>,
    /// The certificates of clients, or of who signs them: a file, or a folder.
    pub authenticate: PathBuf,
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageConf {
    /// A database in a file.
    File(FileStorageConf),
    /// A storage in memory.
    Mapping {
        /// What it is called.
        title: String,
    },
    /// Changes above a storage that stays as it is.
    Demo {
        /// The storage that stays.
        base: Option<Box<StorageConf>>,
        /// Where changes go; in memory, if nowhere.
        changes: Option<Box<StorageConf>>,
    },
    /// Records are compressed.
    Compressed {
        /// Whether new ones are; old ones are read either way.
        compress: bool,
        /// Whether clients get them as they are.
        for_clients: bool,
        /// Where they are.
        base: Box<StorageConf>,
    },
}

/// The section `filestorage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStorageConf {
    /// The file.
    pub path: PathBuf,
    /// Where its blobs are.
    pub blob_dir: Option<PathBuf>,
    /// Whether it is made anew, whatever is there.
    pub create: bool,
    /// Whether it is only read.
    pub read_only: bool,
    /// Bytes that it may have.
    pub quota: Option<u64>,
    /// Whether a pack collects garbage.
    pub pack_gc: bool,
    /// Whether a pack keeps the old file.
    pub pack_keep_old: bool,
}

/// The section `eventlog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// What is logged from this level on, as Python counts levels: 10 is debug, 20 info, 30 warning, 40 error.
    pub level: u64,
    /// Where to.
    pub files: Vec<LogFile>,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// Packages whose words are known.
const PACKAGES: [&str; 4] = ["ZEO", "ZODB", "zc.zlibstorage", "ZConfig.components.logger"];

/// Keys of the section `runner`, which is for the program that starts the server.
const RUNNER: [&str; 15] = [
    "program",
    "socket-name",
    "daemon",
    "backoff-limit",
    "forever",
    "exit-codes",
    "user",
    "umask",
    "directory",
    "hang-around",
    "default-to-interactive",
    "logfile",
    "transcript",
    "prompt",
    "python",
];

type Result<T> = std::result::Result<T, ConfError>;

impl ZeoConf {
    /// Reads a `zeo.conf` with all that it includes.
    ///
    /// # Errors
    ///
    /// A file cannot be read; a line is none of the language; a key or section is not known, is there twice or is missing; a
    /// value is none of its kind. The error names the line.
    pub fn read(path: &Path, source: &dyn Source) -> Result<ZeoConf> {
        let top = zconfig(path, source)?;
        for (package, place) in &top.imports {
            if !PACKAGES.contains(&package.as_str()) {
                let why = format!("the package {package} is not known: known are {}", PACKAGES.join(", "));
                return Err(ConfError { place: place.clone(), why });
            }
        }
        let mut words = Words::new(&top);
        words.no_keys()?;
        let zeo = words.section(&["zeo"])?.ok_or_else(|| top.error("there is no section <zeo>"))?;
        let mut ignored = Vec::new();
        let event_log = words.section(&["eventlog"])?.map(EventLog::read).transpose()?;
        if let Some(runner) = words.section(&["runner"])? {
            let mut words = Words::new(runner);
            RUNNER.iter().try_for_each(|key| words.key(key).map(drop))?;
            words.sections.clear();
            words.end()?;
            ignored.push("<runner> is for zeoctl: it is read and not used".to_owned());
        }
        let mut storages: Vec<(String, StorageConf)> = Vec::new();
        let found = std::mem::take(&mut words.sections);
        for section in found {
            let name = section.name.clone().unwrap_or_else(|| "1".to_owned());
            if storages.iter().any(|(other, _)| *other == name) {
                return Err(section.error(format!("a second storage with the name {name}")));
            }
            storages.push((name, StorageConf::read(section)?));
        }
        if storages.is_empty() {
            return Err(top.error("there is no storage"));
        }
        ZeoConf::of(zeo, storages, event_log, ignored)
    }

    fn of(
        zeo: &Section,
        storages: Vec<(String, StorageConf)>,
        event_log: Option<EventLog>,
        ignored: Vec<String>,
    ) -> Result<ZeoConf> {
        let mut words = Words::new(zeo);
        let age = words.key("invalidation-age")?.map(Key::seconds).transpose()?;
        let timeout = words.key("transaction-timeout")?.map(Key::integer).transpose()?;
        let conf = ZeoConf {
            address: words.needed("address")?.address()?,
            read_only: words.flag("read-only", false)?,
            invalidation_queue_size: words.key("invalidation-queue-size")?.map_or(Ok(100), Key::integer)?,
            invalidation_age: age.map(Duration::from_secs_f64),
            transaction_timeout: timeout.map(Duration::from_secs),
            pid_file: words.key("pid-filename")?.map(Key::path),
            clients_resolve: words.flag("client-conflict-resolution", false)?,
            msgpack: words.key("msgpack")?.map(Key::boolean).transpose()?,
            tls: words.section(&["ssl"])?.map(Tls::read).transpose()?,
            storages,
            event_log,
            ignored,
        };
        words.end()?;
        Ok(conf)
    }
}

impl Tls {
    fn read(section: &Section) -> Result<Tls> {
        let mut words = Words::new(section);
        let tls = Tls {
            certificate: words.needed("certificate")?.path(),
            key: words.key("key")?.map(Key::path),
            authenticate: words.needed("authenticate")?.path(),
        };
        if let Some(key) = words.key("password-function")? {
            let why =
                "a function of Python gives no password here: store the key without one, readable by the server alone";
            return Err(ConfError { place: key.place.clone(), why: why.to_owned() });
        }
        words.end()?;
        Ok(tls)
    }
}

impl StorageConf {
    fn read(section: &Section) -> Result<StorageConf> {
        let mut words = Words::new(section);
        let conf = match section.kind.as_str() {
            "filestorage" => {
                let conf = FileStorageConf {
                    path: words.needed("path")?.path(),
                    blob_dir: words.key("blob-dir")?.map(Key::path),
                    create: words.flag("create", false)?,
                    read_only: words.flag("read-only", false)?,
                    quota: words.key("quota")?.map(Key::bytes).transpose()?,
                    pack_gc: words.flag("pack-gc", true)?,
                    pack_keep_old: words.flag("pack-keep-old", true)?,
                };
                if let Some(key) = words.key("packer")? {
                    let why = "a packer of Python cannot be used here: leave it out".to_owned();
                    return Err(ConfError { place: key.place.clone(), why });
                }
                StorageConf::File(conf)
            }
            "mappingstorage" => {
                let title = words.key("name")?.map_or("Mapping Storage", |key| key.value.as_str()).to_owned();
                StorageConf::Mapping { title }
            }
            "demostorage" => {
                words.key("name")?;
                let [mut base, mut changes] = [None, None];
                for section in std::mem::take(&mut words.sections) {
                    // By name, or by their order.
                    let place = match section.name.as_deref() {
                        Some("changes") => &mut changes,
                        Some("base") => &mut base,
                        _ if base.is_none() => &mut base,
                        _ => &mut changes,
                    };
                    if place.is_some() {
                        return Err(section.error("a demostorage has one base and one storage for changes"));
                    }
                    *place = Some(Box::new(StorageConf::read(section)?));
                }
                StorageConf::Demo { base, changes }
            }
            kind @ ("zlibstorage" | "serverzlibstorage") => {
                let compress = words.flag("compress", true)?;
                let [base] = std::mem::take(&mut words.sections)[..] else {
                    return Err(section.error("it needs one storage in it"));
                };
                let base = Box::new(StorageConf::read(base)?);
                StorageConf::Compressed { compress, for_clients: kind == "serverzlibstorage", base }
            }
            other => {
                let known = "filestorage, mappingstorage, demostorage, zlibstorage, serverzlibstorage";
                return Err(section.error(format!("<{other}> is no storage that is known: known are {known}")));
            }
        };
        words.end()?;
        Ok(conf)
    }
}

impl EventLog {
    fn read(section: &Section) -> Result<EventLog> {
        let mut words = Words::new(section);
        let level = words.key("level")?.map_or(Ok(20), level)?;
        let mut files = Vec::new();
        for file in std::mem::take(&mut words.sections) {
            if file.kind != "logfile" {
                return Err(file.error(format!("<{}> is no place for logs that is known: known is logfile", file.kind)));
            }
            let mut words = Words::new(file);
            files.push(match words.needed("path")?.value.as_str() {
                "STDOUT" => LogFile::Stdout,
                "STDERR" => LogFile::Stderr,
                path => LogFile::File(path.into()),
            });
            for key in [
                "level",
                "format",
                "dateformat",
                "max-size",
                "old-files",
                "when",
                "interval",
                "delay",
                "encoding",
                "style",
                "formatter",
                "arbitrary-fields",
            ] {
                words.key(key)?;
            }
            words.end()?;
        }
        words.end()?;
        Ok(EventLog { level, files })
    }
}

/// A level by its name or number.
fn level(key: &Key) -> Result<u64> {
    let level = match key.value.to_lowercase().as_str() {
        "critical" | "fatal" => 50,
        "error" => 40,
        "warn" | "warning" => 30,
        "info" => 20,
        "blather" => 15,
        "debug" => 10,
        "trace" => 5,
        "all" => 1,
        "notset" => 0,
        _ => return key.integer(),
    };
    Ok(level)
}

impl Key {
    fn path(&self) -> PathBuf {
        PathBuf::from(&self.value)
    }
}

impl Section {
    fn error(&self, why: impl Into<String>) -> ConfError {
        ConfError { place: self.place.clone(), why: why.into() }
    }
}

/// The words of a section that are still to be looked at. What is left at the end is not known.
struct Words<'a> {
    section: &'a Section,
    keys: Vec<&'a Key>,
    sections: Vec<&'a Section>,
}

impl<'a> Words<'a> {
    fn new(section: &'a Section) -> Words<'a> {
        Words { section, keys: section.keys.iter().collect(), sections: section.sections.iter().collect() }
    }

    /// Takes a key, which may be there once.
    fn key(&mut self, name: &str) -> Result<Option<&'a Key>> {
        let mut found = self.keys.extract_if(.., |key| key.name.eq_ignore_ascii_case(name));
        let (first, second) = (found.next(), found.next());
        match second {
            Some(second) => {
                Err(ConfError { place: second.place.clone(), why: format!("{name} is there a second time") })
            }
            None => Ok(first),
        }
    }

    fn needed(&mut self, name: &str) -> Result<&'a Key> {
        self.key(name)?.ok_or_else(|| self.section.error(format!("<{}> needs {name}", self.section.kind)))
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool> {
        self.key(name)?.map_or(Ok(default), Key::boolean)
    }

    /// Takes a section of one of these types, which may be there once.
    fn section(&mut self, kinds: &[&str]) -> Result<Option<&'a Section>> {
        let mut found = self.sections.extract_if(.., |section| kinds.contains(&section.kind.as_str()));
        let (first, second) = (found.next(), found.next());
        match second {
            Some(second) => Err(second.error(format!("<{}> is there a second time", second.kind))),
            None => Ok(first),
        }
    }

    fn no_keys(&self) -> Result<()> {
        match self.keys.first() {
            Some(key) => {
                Err(ConfError { place: key.place.clone(), why: format!("the key {} stands in no section", key.name) })
            }
            None => Ok(()),
        }
    }

    fn end(self) -> Result<()> {
        let kind = &self.section.kind;
        if let Some(key) = self.keys.first() {
            return Err(ConfError { place: key.place.clone(), why: format!("<{kind}> has no key {}", key.name) });
        }
        match self.sections.first() {
            Some(inner) => Err(inner.error(format!("<{}> is nothing that <{kind}> can have", inner.kind))),
            None => Ok(()),
        }
    }
}
