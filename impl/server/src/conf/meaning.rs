//! The meaning of the words of `zeo.conf`.

use std::path::{Path, PathBuf};

use super::plan::INVALIDATION_QUEUE_SIZE;
use super::{
    ConfError, EventLog, FileStorageConf, Key, LogFile, LogFormat, LogTarget, Plan, Rotation, Section, Source,
    StorageConf, Syncs, Tls, zconfig,
};

/// Packages whose words are known.
const PACKAGES: [&str; 4] = ["ZEO", "ZODB", ZLIB, "ZConfig.components.logger"];
const ZLIB: &str = "zc.zlibstorage";

/// Keys of the section `runner`, which is for the program that starts the server.
const RUNNER: [&str; 19] = [
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
    "zdrun",
    "start-test-program",
    "start-timeout",
    "stop-timeout",
];

type Result<T> = std::result::Result<T, ConfError>;

impl Plan {
    /// Reads a `zeo.conf` with all that it includes.
    ///
    /// # Errors
    ///
    /// A file cannot be read; a line is none of the language; a key or section is not known, is there twice or is
    /// missing; a value is none of its kind. The error names the line.
    pub fn of_zeo_conf(path: &Path, source: &dyn Source) -> Result<Plan> {
        Plan::of_section(&zconfig(path, source)?)
    }

    /// The same, with other values for some keys: see [`Section::put`].
    ///
    /// # Errors
    ///
    /// As for [`Plan::of_zeo_conf`], and for [`Section::put`].
    pub fn of_zeo_conf_with(path: &Path, source: &dyn Source, values: &[String]) -> Result<Plan> {
        let mut top = zconfig(path, source)?;
        values.iter().try_for_each(|value| top.put(value))?;
        Plan::of_section(&top)
    }

    fn of_section(top: &Section) -> Result<Plan> {
        let knows_zlib = top.imports.iter().any(|(package, _)| package == ZLIB);
        for (package, place) in &top.imports {
            if !PACKAGES.contains(&package.as_str()) {
                let why = format!("the package {package} is not known: known are {}", PACKAGES.join(", "));
                return Err(ConfError { place: place.clone(), why });
            }
        }
        let mut words = Words::new(top);
        words.no_keys()?;
        let zeo = words.section(&["zeo"])?.ok_or_else(|| top.error("there is no section <zeo>"))?;
        let mut ignored = Vec::new();
        let event_log = words.section(&["eventlog"])?;
        let event_log = event_log.map(|section| read_event_log(section, &mut ignored)).transpose()?;
        if let Some(section) = words.section(&["runner"])? {
            runner(section)?;
            ignored.push(
                "<runner> is for zeoctl: it is read and not used; run the server under systemd, supervisord or a \
                 container's engine"
                    .to_owned(),
            );
        }
        let mut storages: Vec<(String, StorageConf)> = Vec::new();
        let found = std::mem::take(&mut words.sections);
        for section in found {
            let name = section.name.clone().unwrap_or_else(|| "1".to_owned());
            if storages.iter().any(|(other, _)| *other == name) {
                return Err(section.error(format!("a second storage with the name {name}")));
            }
            storages.push((name, StorageConf::read(section, knows_zlib)?));
        }
        if storages.is_empty() {
            return Err(top.error("there is no storage"));
        }
        Plan::of(zeo, storages, event_log, ignored)
    }

    fn of(
        zeo: &Section,
        storages: Vec<(String, StorageConf)>,
        event_log: Option<EventLog>,
        ignored: Vec<String>,
    ) -> Result<Plan> {
        let mut words = Words::new(zeo);
        let timeout = words.key("transaction-timeout")?.map(Key::whole_seconds).transpose()?;
        let conf = Plan {
            addresses: vec![words.needed("address")?.address()?],
            read_only: words.flag("read-only", false)?,
            invalidation_queue_size: words
                .key("invalidation-queue-size")?
                .map_or(Ok(INVALIDATION_QUEUE_SIZE), Key::integer)?,
            invalidation_age: words.key("invalidation-age")?.map(Key::seconds).transpose()?,
            transaction_timeout: timeout,
            pid_file: words.key("pid-filename")?.and_then(Key::optional_path),
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
            place: section.place.clone(),
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
    fn read(section: &Section, knows_zlib: bool) -> Result<StorageConf> {
        let mut words = Words::new(section);
        let conf = match section.kind.as_str() {
            "filestorage" => {
                let conf = FileStorageConf {
                    path: words.needed("path")?.path(),
                    blob_dir: words.key("blob-dir")?.and_then(Key::optional_path),
                    blob_layout: None,
                    create: words.flag("create", false)?,
                    read_only: words.flag("read-only", false)?,
                    quota: words.key("quota")?.map(Key::bytes).transpose()?,
                    pack_gc: words.flag("pack-gc", true)?,
                    pack_keep_old: words.flag("pack-keep-old", true)?,
                    durability: Syncs::Full,
                    history_free: false,
                    grace: None,
                };
                if conf.create && conf.read_only {
                    return Err(section.error("create makes the file anew, and read-only forbids that: leave out one"));
                }
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
                let title = words.key("name")?.map(|key| key.value.clone());
                let [mut base, mut changes] = [None, None];
                for section in std::mem::take(&mut words.sections) {
                    let place = if section.name.as_deref() == Some("changes") { &mut changes } else { &mut base };
                    if place.is_some() {
                        return Err(section.error(
                            "<demostorage> has one base, and one storage for changes, which is called changes",
                        ));
                    }
                    *place = Some(Box::new(StorageConf::read(section, knows_zlib)?));
                }
                StorageConf::Demo { title, base, changes }
            }
            kind @ ("zlibstorage" | "serverzlibstorage") => {
                if !knows_zlib {
                    return Err(section.error(format!("<{kind}> needs a line `%import {ZLIB}` before it")));
                }
                let compress = words.flag("compress", true)?;
                let [base] = std::mem::take(&mut words.sections)[..] else {
                    return Err(section.error("it needs one storage in it"));
                };
                let base = Box::new(StorageConf::read(base, knows_zlib)?);
                let (for_clients, place) = (kind == "serverzlibstorage", section.place.clone());
                StorageConf::Compressed { compress, for_clients, base, place }
            }
            "blobstorage" => {
                let folder = words.needed("blob-dir")?.path();
                let [base] = std::mem::take(&mut words.sections)[..] else {
                    return Err(section.error("it needs one storage in it"));
                };
                let mut base = StorageConf::read(base, knows_zlib)?;
                base.keep_blobs_in(folder).map_err(|why| section.error(why))?;
                base
            }
            other => {
                let known = "filestorage, mappingstorage, demostorage, blobstorage, zlibstorage, serverzlibstorage";
                return Err(section.error(format!("<{other}> is no storage that is known: known are {known}")));
            }
        };
        words.end()?;
        Ok(conf)
    }
}

/// The section `runner`, which is for another program: its words are looked at, as that program does.
fn runner(section: &Section) -> Result<()> {
    let mut words = Words::new(section);
    for key in RUNNER {
        words.key(key)?;
    }
    if let Some(log) = words.section(&["eventlog"])? {
        read_event_log(log, &mut Vec::new())?;
    }
    words.end()
}

/// Keys of `logfile` that do nothing here.
const LOGFILE: [&str; 5] = ["delay", "encoding", "style", "formatter", "arbitrary-fields"];

fn read_event_log(section: &Section, ignored: &mut Vec<String>) -> Result<EventLog> {
    let mut words = Words::new(section);
    let level = words.key("level")?.map_or(Ok(20), level)?;
    let mut files = Vec::new();
    for file in std::mem::take(&mut words.sections) {
        if file.kind != "logfile" {
            return Err(file.error(format!("<{}> is no place for logs that is known: known is logfile", file.kind)));
        }
        let mut words = Words::new(file);
        let to = LogTarget::of(&words.needed("path")?.value);
        let level = words.key("level")?.map_or(Ok(0), self::level)?;
        let (format, dates) = (words.key("format")?, words.key("dateformat")?);
        let format = LogFormat::parse(
            format.map_or(LogFormat::ZEO, |key| &key.value),
            dates.map_or(LogFormat::DATES, |key| &key.value),
        );
        let format = format.map_err(|why| file.error(why))?;
        for key in LOGFILE {
            if words.key(key)?.is_some() {
                ignored.push(format!("{key} of <logfile> is not done"));
            }
        }
        let size = words.key("max-size")?.map_or(Ok(0), Key::bytes)?;
        let old_files = words.key("old-files")?.map_or(Ok(0), Key::integer)?;
        let when = words.key("when")?.map(|key| key.value.as_str()).filter(|when| !when.is_empty());
        let interval = words.key("interval")?.map(Key::integer).transpose()?.filter(|interval| *interval > 0);
        let rotation = Rotation::of(&to, size, old_files, when, interval).map_err(|why| file.error(why))?;
        words.end()?;
        files.push(LogFile { to, level, format, rotation });
    }
    words.end()?;
    Ok(EventLog { level, files })
}

impl LogTarget {
    /// A path; or a standard stream by its name, in capitals.
    pub fn of(path: &str) -> LogTarget {
        match path {
            "STDOUT" => LogTarget::Stdout,
            "STDERR" => LogTarget::Stderr,
            path => LogTarget::File(path.into()),
        }
    }
}

/// A level by its name or number.
fn level(key: &Key) -> Result<u64> {
    let wrong = || key.wrong("critical, error, warning, info, debug, all, or a number up to 50");
    level_named(&key.value).ok_or_else(wrong)
}

/// A level by its name or number, as Python counts them.
pub(super) fn level_named(name: &str) -> Option<u64> {
    let level = match name.to_lowercase().as_str() {
        "critical" | "fatal" => 50,
        "error" => 40,
        "warn" | "warning" => 30,
        "info" => 20,
        "blather" => 15,
        "debug" => 10,
        "trace" => 5,
        "all" => 1,
        "notset" => 0,
        number => number.parse().ok().filter(|level| *level <= 50)?,
    };
    Some(level)
}

impl Key {
    fn path(&self) -> PathBuf {
        PathBuf::from(&self.value)
    }

    /// A path; without a value, none.
    fn optional_path(&self) -> Option<PathBuf> {
        Some(self.path()).filter(|path| !path.as_os_str().is_empty())
    }
}

impl Section {
    fn error(&self, why: impl Into<String>) -> ConfError {
        ConfError { place: self.place.clone(), why: why.into() }
    }
}

/// The words of a section that are still to be looked at. Words that are left at the end are unknown.
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
            Some(inner) => Err(inner.error(format!("<{kind}> cannot have <{}>", inner.kind))),
            None => Ok(()),
        }
    }
}
