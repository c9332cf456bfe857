//! `zeo.conf` as it is found in the field, and invalid ones.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use vellum_server::Address;
use vellum_server::conf::{BlobLayout, FileStorageConf, LogTarget, Plan, Source, StorageConf, zconfig};

/// Files and variables that a test makes up.
#[derive(Default)]
struct Made {
    files: BTreeMap<PathBuf, String>,
    variables: BTreeMap<String, String>,
}

impl Source for Made {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Made {
    fn file(mut self, path: &str, text: &str) -> Made {
        self.files.insert(path.into(), text.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Made {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn conf(&self) -> Result<Plan, String> {
        Plan::of_zeo_conf(Path::new("etc/zeo.conf"), self).map_err(|error| error.to_string())
    }
}

fn conf(text: &str) -> Result<Plan, String> {
    Made::default().file("etc/zeo.conf", text).conf()
}

fn file(conf: &Plan) -> &FileStorageConf {
    match &conf.storages[0].1 {
        StorageConf::File(file) => file,
        other => panic!("{other:?}"),
    }
}

fn targets(conf: &Plan) -> Vec<LogTarget> {
    conf.event_log.as_ref().unwrap().files.iter().map(|file| file.to.clone()).collect()
}

/// The configuration that the recipe for Plone's buildouts writes, by its keys.
#[test]
fn a_buildout_s_file_is_read() {
    let text = "\
%define INSTANCE /srv/plone/parts/zeoserver

<zeo>
  address 8100
  read-only false
  invalidation-queue-size 100
  pid-filename /srv/plone/var/zeoserver.pid
  transaction-timeout 300
</zeo>

<filestorage 1>
  path /srv/plone/var/filestorage/Data.fs
  blob-dir $INSTANCE/blobstorage
  pack-keep-old true
</filestorage>

<eventlog>
  level info
  <logfile>
    path /srv/plone/var/log/zeoserver.log
  </logfile>
</eventlog>

<runner>
  program $INSTANCE/bin/runzeo
  socket-name /srv/plone/var/zeoserver.zopectlsock
  daemon true
  forever false
  backoff-limit 10
  exit-codes 0, 2
  directory $INSTANCE
  default-to-interactive true
  logfile /srv/plone/var/log/zeoserver.log
</runner>
";
    let conf = conf(text).unwrap();
    assert_eq!(conf.addresses, [Address::Tcp(":8100".to_owned())]);
    assert_eq!(conf.transaction_timeout, Some(Duration::from_secs(300)));
    assert_eq!(conf.storages[0].0, "1");
    assert_eq!(file(&conf).blob_dir.as_deref(), Some(Path::new("/srv/plone/parts/zeoserver/blobstorage")));
    assert!(file(&conf).pack_keep_old && file(&conf).pack_gc);
    assert_eq!(targets(&conf), [LogTarget::File("/srv/plone/var/log/zeoserver.log".into())]);
    assert_eq!(conf.ignored.len(), 1);
}

/// A file as containers have it, with everything from the environment.
#[test]
fn variables_of_the_environment_are_put_in() {
    let text = "\
<zeo>
  address 0.0.0.0:$(ZEO_PORT)
  read-only $(ZEO_READ_ONLY)
  invalidation-queue-size $(ZEO_INVALIDATION_QUEUE_SIZE)
  pid-filename /data/zeo.pid
</zeo>
<filestorage 1>
  path /data/filestorage/Data.fs
  blob-dir /data/blobstorage
  pack-keep-old $(ZEO_PACK_KEEP_OLD)
</filestorage>
<eventlog>
  level info
  <logfile>
    path STDOUT
  </logfile>
</eventlog>
";
    let made = Made::default().file("etc/zeo.conf", text);
    let error = made.conf().unwrap_err();
    assert_eq!(error, "etc/zeo.conf, line 2: there is no variable ZEO_PORT in the environment");
    let made = made
        .variable("ZEO_PORT", "8100")
        .variable("ZEO_READ_ONLY", "Off")
        .variable("ZEO_INVALIDATION_QUEUE_SIZE", "250")
        .variable("ZEO_PACK_KEEP_OLD", "no");
    let conf = made.conf().unwrap();
    assert_eq!(conf.addresses, [Address::Tcp("0.0.0.0:8100".to_owned())]);
    assert_eq!((conf.read_only, conf.invalidation_queue_size, file(&conf).pack_keep_old), (false, 250, false));
    assert_eq!(targets(&conf), [LogTarget::Stdout]);
}

#[test]
fn files_include_others_from_where_they_are() {
    let made = Made::default()
        .file("etc/zeo.conf", "%define name One\n%include more/storages.conf\n%include zeo-section.conf\n")
        .file("etc/zeo-section.conf", "<zeo>\n  address ${here}/s.sock\n</zeo>\n")
        .file("etc/more/storages.conf", "%define HERE /run\n%include deep.conf\n<mappingstorage $name/>\n")
        .file("etc/more/deep.conf", "<FileStorage Main>\n path $name-$$.fs\n quota 10 MB\n</filestorage>\n");
    let conf = made.conf().unwrap();
    assert_eq!(conf.addresses, [Address::Unix("/run/s.sock".into())]);
    assert_eq!(Address::parse("127.0.0.1: 8100"), Some(Address::Tcp("127.0.0.1:8100".to_owned())));
    // A section's name is taken as it is written.
    let names: Vec<&str> = conf.storages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["main", "$name"]);
    assert_eq!((file(&conf).path.to_str(), file(&conf).quota), (Some("One-$.fs"), Some(10 << 20)));
}

#[test]
fn storages_are_nested() {
    let text = "\
%import zc.zlibstorage
<zeo>
  address /s
</zeo>
<demostorage>
  <serverzlibstorage base>
    compress off
    <filestorage>
      path Data.fs
    </filestorage>
  </serverzlibstorage>
  <mappingstorage changes/>
</demostorage>
";
    let conf = conf(text).unwrap();
    let StorageConf::Demo { base: Some(base), changes: Some(changes), .. } = &conf.storages[0].1 else { panic!() };
    assert!(matches!(&**base, StorageConf::Compressed { compress: false, for_clients: true, .. }));
    assert!(matches!(&**changes, StorageConf::Mapping { .. }));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let zeo = "<zeo>\n address 8100\n</zeo>\n";
    let cases = [
        ("", "etc/zeo.conf: there is no section <zeo>"),
        ("<zeo>\n</zeo>\n<mappingstorage/>", "etc/zeo.conf, line 1: <zeo> needs address"),
        ("<zeo>\n address 8100 # port\n</zeo>\n<mappingstorage/>", "etc/zeo.conf, line 2: address is PORT"),
        ("<zeo>\n address localhost\n</zeo>\n<mappingstorage/>", "etc/zeo.conf, line 2: address is PORT"),
        ("<zeo>\n address 1\n address 2\n</zeo>\n<mappingstorage/>", "line 3: address is there a second time"),
        ("<zeo>\n address 1\n read-only 1\n</zeo>\n<mappingstorage/>", "line 3: read-only is yes, true, on"),
        ("<zeo>\n address 1\n transaction-timeout 1h\n</zeo>\n<mappingstorage/>", "a whole number, and not \"1h\""),
        (
            "<zeo>\n address 1\n monitor-address 2\n</zeo>\n<mappingstorage/>",
            "line 3: <zeo> has no key monitor-address",
        ),
        ("<zeo>\n address 1\n read_only no\n</zeo>\n<mappingstorage/>", "line 3: <zeo> has no key read_only"),
        ("address 1", "the key address stands in no section"),
        ("<zeo>\n", "line 1: <zeo> is never closed"),
        ("<zeo>\n</zoe>", "line 2: </zoe> closes <zeo>"),
        ("</zeo>", "line 1: </zeo> closes nothing"),
        ("< zeo>", "line 1: a section begins with"),
        ("<zeo", "ends with >"),
        ("(x)", "line 1: neither a key"),
        ("%define a b\n%define A c", "line 2: a is defined already"),
        ("%define a b\n%define c b\n%define c $a", "line 3: c is defined already"),
        ("%define 1 b", "line 1: 1 cannot be defined"),
        ("%undefine a", "line 1: there is no directive %undefine"),
        ("%include", "line 1: %include of nothing"),
        ("%include gone.conf", "line 1: etc/gone.conf cannot be read"),
        ("%include zeo.conf", "more than 16 deep"),
        ("%import RelStorage", "line 1: the package RelStorage is not known"),
        ("<zeo>\n address ${x\n</zeo>", "line 2: a $ with an open bracket"),
        ("<zeo>\n address $x\n</zeo>", "line 2: x is not defined"),
        ("<zeo>\n address a$\n</zeo>", "line 2: a lone $"),
    ];
    for (text, wanted) in cases {
        let error = conf(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    let storages = [
        ("", "etc/zeo.conf: there is no storage"),
        ("<mappingstorage/>\n<mappingstorage/>", "line 5: a second storage with the name 1"),
        ("<mappingstorage A/>\n<filestorage a>\n path x\n</filestorage>", "line 5: a second storage with the name a"),
        ("<filestorage/>", "line 4: <filestorage> needs path"),
        ("<filestorage>\n path a\n quota 20M\n</filestorage>", "line 6: quota is a number of bytes"),
        ("<filestorage>\n path a\n quota 2TB\n</filestorage>", "line 6: quota is a number of bytes"),
        ("<relstorage/>", "line 4: <relstorage> is no storage that is known"),
        ("<zlibstorage/>", "line 4: <zlibstorage> needs a line `%import zc.zlibstorage` before it"),
        ("%import zc.zlibstorage\n<zlibstorage/>", "line 5: it needs one storage in it"),
        (
            "<demostorage>\n <mappingstorage/>\n <mappingstorage base/>\n</demostorage>",
            "line 6: <demostorage> has one base",
        ),
        ("<mappingstorage>\n <filestorage/>\n</mappingstorage>", "line 5: <mappingstorage> cannot have <filestorage>"),
        ("<zeo>\n address 1\n</zeo>\n<mappingstorage/>", "line 4: <zeo> is there a second time"),
    ];
    for (text, wanted) in storages {
        let error = conf(&format!("{zeo}{text}")).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

/// Texts that are short, and would be long, deep or endless once they are read.
#[test]
fn a_configuration_has_limits() {
    let mut doubling = String::from("%define a0 0123456789\n");
    (0..40).for_each(|n| doubling.push_str(&format!("%define a{} $a{n}$a{n}\n", n + 1)));
    let mut many = format!("%define a {}\n", "x".repeat(60_000));
    (0..1000).for_each(|n| many.push_str(&format!("k{n} $a\n")));
    let cases = [
        (doubling, "the value has more than 65536 bytes"),
        (many, "more than 16777216 bytes"),
        ("<a>\n".repeat(100_000), "more than 64 deep"),
        ("%include zeo.conf\n".repeat(100), "more than 16 deep"),
        ("\n".repeat(100_001), "more than 100000 lines"),
    ];
    for (text, wanted) in cases {
        let error = conf(&text).unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    // Files that include the next one twice are two to the power of their number.
    let mut made = Made::default();
    for n in 0..15 {
        let name = if n == 0 { "etc/zeo.conf".to_owned() } else { format!("etc/{n}.conf") };
        made = made.file(&name, &format!("# some words\n%include {0}.conf\n%include {0}.conf\n", n + 1).repeat(2));
    }
    let error = made.file("etc/15.conf", "").conf().unwrap_err();
    assert!(error.contains("more than 100000 lines"), "{error}");
}

fn toml(text: &str) -> Result<Plan, String> {
    let made = Made::default().file("vellum.toml", text);
    Plan::of_toml(Path::new("vellum.toml"), &made).map_err(|error| error.to_string())
}

/// The same server twice.
#[test]
fn toml_and_zeo_conf_say_the_same() {
    let old = conf(
        "%import zc.zlibstorage
<zeo>
  address 127.0.0.1:8100
  read-only yes
  invalidation-queue-size 7
  invalidation-age 1.5
  transaction-timeout 30
  pid-filename zeo.pid
  client-conflict-resolution on
  msgpack off
  <ssl>
    certificate c.pem
    authenticate clients
  </ssl>
</zeo>
<filestorage main>
  path Data.fs
  blob-dir blobs
  read-only true
  quota 2KB
  pack-gc no
  pack-keep-old no
</filestorage>
<demostorage play>
  <serverzlibstorage base>
    compress off
    <mappingstorage/>
  </serverzlibstorage>
  <filestorage changes>
    path Changes.fs
    create true
  </filestorage>
</demostorage>
<eventlog>
  level warning
  <logfile>
    path STDOUT
    level 40
    format %(message)s
    dateformat %H
  </logfile>
  <logfile>
    path large.log
    max-size 5MB
    old-files 3
  </logfile>
  <logfile>
    path weekly.log
    when w6
    interval 2
    old-files 4
  </logfile>
</eventlog>
",
    )
    .unwrap();
    let new = toml(
        r#"listen = ["127.0.0.1:8100"]
read-only = true
invalidation-queue-size = 7
invalidation-age = 1.5
transaction-timeout = 30.0
pid-filename = "zeo.pid"
client-conflict-resolution = true
msgpack = false

[ssl]
certificate = "c.pem"
authenticate = "clients"

[storages.main.filestorage]
path = "Data.fs"
blob-dir = "blobs"
read-only = true
quota = 2048
pack-gc = false
pack-keep-old = false

[storages.play.demostorage.base.serverzlibstorage]
compress = false
base.mappingstorage = {}

[storages.play.demostorage.changes.filestorage]
path = "Changes.fs"
create = true

[eventlog]
level = "warning"
logfile = [
    { path = "STDOUT", level = 40, format = "%(message)s", dateformat = "%H" },
    { path = "large.log", max-size = 5242880, old-files = 3 },
    { path = "weekly.log", when = "W6", interval = 2, old-files = 4 },
]
"#,
    )
    .unwrap();
    // Places differ, and nothing else.
    let shown = |plan: &Plan| {
        let text = format!("{plan:?}");
        let pieces = text.split("place: Place").map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest));
        text.split("place: Place").next().unwrap().to_owned() + &pieces.skip(1).collect::<String>()
    };
    assert_eq!(shown(&old), shown(&new));
}

#[test]
fn a_blob_folder_is_named_by_its_file_or_around_it() {
    let section = |storage: &str| {
        let text = format!("<zeo>\naddress 8100\n</zeo>\n%import zc.zlibstorage\n{storage}");
        Made::default().file("etc/zeo.conf", &text).conf()
    };
    let inside = section("<filestorage>\npath a\nblob-dir b\n</filestorage>").unwrap();
    let around = section("<blobstorage>\nblob-dir b\n<filestorage>\npath a\n</filestorage>\n</blobstorage>").unwrap();
    assert_eq!(inside.storages, around.storages);
    let in_toml = toml("listen = [\"8100\"]\n[storages.1.filestorage]\npath = \"a\"\nblobs = \"b\"").unwrap();
    assert_eq!(inside.storages, in_toml.storages);
    let lawn =
        toml("listen = [\"8100\"]\n[storages.1.filestorage]\npath = \"a\"\nblobs = \"b\"\nblob-layout = \"lawn\"");
    assert_eq!(file(&lawn.unwrap()).blob_layout, Some(BlobLayout::Lawn));
    let compressed = "<blobstorage>\nblob-dir b\n<zlibstorage>\n<filestorage>\npath a\n</filestorage>\n</zlibstorage>\n</blobstorage>";
    let StorageConf::Compressed { base, .. } = &section(compressed).unwrap().storages[0].1 else { panic!() };
    assert!(matches!(&**base, StorageConf::File(file) if file.blob_dir.as_deref() == Some(Path::new("b"))));
    for (wrong, why) in [
        ("<blobstorage>\n<filestorage>\npath a\n</filestorage>\n</blobstorage>", "blob-dir"),
        ("<blobstorage>\nblob-dir b\n</blobstorage>", "it needs one storage in it"),
        ("<blobstorage>\nblob-dir b\n<mappingstorage/>\n</blobstorage>", "only a filestorage has a blob folder"),
        (
            "<blobstorage>\nblob-dir b\n<filestorage>\npath a\nblob-dir c\n</filestorage>\n</blobstorage>",
            "it has a blob folder already",
        ),
    ] {
        let error = section(wrong).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_is_wrong_in_toml_is_said_with_its_line() {
    let listen = "listen = [\"8100\"]\n";
    let cases = [
        ("", "missing field `listen`"),
        ("listen = [\"8100\"]\n", "missing field `storages`"),
        ("listen = []\nstorages.1.mappingstorage = {}", "listen names no address"),
        ("listen = [\"8100\"]\nstorages = {}", "line 2: there is no storage"),
        ("listen = [\n\"host\"]\nstorages.1.mappingstorage = {}", "vellum.toml, line 2: \"host\" is not PORT"),
        ("listen = 8100", "line 1: invalid type"),
        ("listen = [", "vellum.toml, line 1"),
    ];
    for (text, wanted) in cases {
        let error = toml(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    let storages = [
        ("port = 1\n", "line 2: unknown field `port`"),
        ("transaction-timeout = -1.0\nstorages.1.mappingstorage = {}", "line 2: not a number of seconds"),
        ("transaction-timeout = 1e300\nstorages.1.mappingstorage = {}", "line 2: not a number of seconds"),
        ("[storages.1.filestorage]\nread-only = true", "line 2: missing field `path`"),
        ("[storages.1.filestorage]\npath = \"a\"\nquota = \"1GB\"", "line 4: invalid type"),
        ("[storages.1.filestorage]\npath = \"a\"\ndurability = \"some\"", "line 4: unknown variant `some`"),
        (
            "[storages.1.filestorage]\npath = \"a\"\nblobs = \"b\"\nblob-layout = \"flat\"",
            "line 5: unknown variant `flat`",
        ),
        (
            "[storages.1.filestorage]\npath = \"a\"\nblob-layout = \"lawn\"",
            "line 2: blob-layout is how the files in blobs are laid out, and there is no blobs",
        ),
        ("[storages.1.relstorage]\n", "line 2: unknown variant `relstorage`"),
        ("[storages.1.zlibstorage]\n", "line 2: missing field `base`"),
        ("[eventlog]\nlevel = \"loud\"\n[storages.1.mappingstorage]", "line 3: level is critical"),
        (
            "[eventlog]\nlogfile = [{ path = \"a\", format = \"%(b)s\" }]\n[storages.1.mappingstorage]",
            "line 3: format names",
        ),
    ];
    for (text, wanted) in storages {
        let error = toml(&format!("{listen}{text}")).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

/// As ZConfig refuses them.
#[test]
fn a_rotation_that_contradicts_itself_is_refused() {
    for (path, keys, wanted) in [
        ("zeo.log", "max-size 5MB", "a log that is rotated needs old-files"),
        ("zeo.log", "when midnight", "a log that is rotated needs old-files"),
        ("zeo.log", "old-files 3", "a log that is rotated needs max-size or when"),
        ("zeo.log", "interval 3\nold-files 3", "a log that is rotated needs max-size or when"),
        ("zeo.log", "max-size 5MB\nwhen midnight\nold-files 3", "a log has max-size or when, and not both"),
        ("zeo.log", "when W7\nold-files 3", "when is S, M, H, D, midnight, or W0 (Monday) to W6"),
        ("zeo.log", "when S\ninterval 1000000000000\nold-files 3", "interval is at most 1000000"),
        ("STDERR", "max-size 5MB\nold-files 3", "a stream cannot be rotated"),
    ] {
        let log = format!("<eventlog>\n<logfile>\npath {path}\n{keys}\n</logfile>\n</eventlog>\n");
        let error = conf(&format!("<zeo>\naddress 8100\n</zeo>\n<mappingstorage/>\n{log}")).unwrap_err();
        assert!(error.contains(wanted), "{keys}: {error}");
        let keys = keys.replace(' ', " = ").replace("5MB", "5").replace('\n', ", ");
        let keys = keys.replace("midnight", "\"midnight\"").replace("W7", "\"W7\"").replace("= S", "= \"S\"");
        let log = format!("[eventlog]\nlogfile = [{{ path = \"{path}\", {keys} }}]\n[storages.1.mappingstorage]\n");
        let error = toml(&format!("listen = [\"8100\"]\n{log}")).unwrap_err();
        assert!(error.contains(wanted) && error.contains("line 3"), "{keys}: {error}");
    }
}

proptest! {
    /// Any text is a configuration or an error that names a place.
    #[test]
    fn any_text_is_read_or_refused(text in "[<>/%$(){}# \na-z0-9]{0,80}") {
        let made = Made::default().file("etc/zeo.conf", &text);
        if let Err(error) = zconfig(Path::new("etc/zeo.conf"), &made) {
            prop_assert!(error.to_string().starts_with("etc/zeo.conf"));
        }
        let _ = (made.conf(), toml(&text));
    }
}
