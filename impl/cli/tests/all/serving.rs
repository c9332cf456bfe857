//! Serving what a configuration says: files as they are found in the field, and the commands beside the server.

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::Sandbox;
use crate::common::server::{Serving, are_there, free_port, info, newest};
use vellum_storage::{ManualClock, Oid, Tid, TransactionMeta};

#[test]
fn several_storages_are_served_by_one_zeo_conf() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail").file(
        "zeo.conf",
        b"<zeo>
  address 127.0.0.1:0
  pid-filename zeo.pid
</zeo>
<filestorage main>
  path mail.fs
</filestorage>
<mappingstorage scratch/>
<demostorage try>
  <filestorage base>
    path Base.fs
  </filestorage>
  <filestorage changes>
    path Changes.fs
  </filestorage>
</demostorage>
<eventlog>
  level info
  <logfile>
    path zeo.log
    format %(levelname)s %(message)s
  </logfile>
  <logfile>
    path short.log
    max-size 150
    old-files 2
  </logfile>
</eventlog>
",
    );
    let serving = Serving::start(&mut sandbox.command(&["serve", "--config", "zeo.conf"]), 1);
    let pid = std::fs::read_to_string(sandbox.path("zeo.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", serving.id()));
    let main = info(serving.address(), "main");
    assert!(main.contains("mail.fs") && main.contains("IStorageUndoable") && main.contains("IExternalGC"), "{main}");
    let scratch = info(serving.address(), "scratch");
    assert!(scratch.contains("Mapping Storage") && !scratch.contains("IStorageUndoable"), "{scratch}");
    let demo = info(serving.address(), "try");
    assert!(demo.contains("DemoStorage('Base.fs', 'Changes.fs')") && demo.contains("IStorageUndoable"), "{demo}");
    let other = sandbox.run(&["zeopack", &format!("{}:other", serving.address()), "--wait", "0"]);
    assert!(other.code == 1 && other.stderr.contains("the server has no storage 'other'"), "{}", other.stderr);
    let log = std::fs::read_to_string(sandbox.path("zeo.log")).unwrap();
    assert!(log.contains("INFO opening storage main: mail.fs\n"), "{log}");
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!sandbox.path("zeo.pid").exists());
    let short = ["short.log", "short.log.1", "short.log.2", "short.log.3"].map(|name| sandbox.path(name).exists());
    assert_eq!(short, [true, true, true, false]);
}

/// Whether somewhere in these bytes there are those.
fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// One file of compressed records, and the layer in each of its forms; over a demostorage, too.
#[test]
fn compressed_storages_are_served() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    assert_eq!(sandbox.run(&["copy", "mail.fs", "one.fs", "--compress"]).code, 0);
    for name in ["two", "base"] {
        std::fs::copy(sandbox.path("one.fs"), sandbox.path(&format!("{name}.fs"))).unwrap();
    }
    sandbox.file(
        "zeo.conf",
        b"%import zc.zlibstorage
<zeo>
  address 127.0.0.1:0
</zeo>
<zlibstorage plain>
  <filestorage>
    path one.fs
  </filestorage>
</zlibstorage>
<serverzlibstorage clients>
  compress no
  <filestorage>
    path two.fs
  </filestorage>
</serverzlibstorage>
<demostorage try>
  <zlibstorage base>
    compress no
    <filestorage>
      path base.fs
      read-only yes
    </filestorage>
  </zlibstorage>
</demostorage>
",
    );
    assert_session!("cli-serve-compressed", sandbox.session(&[&["serve", "--config", "zeo.conf", "--check-config"]]));
    let serving = Serving::start(&mut sandbox.command(&["serve", "--config", "zeo.conf"]), 1);
    // The root, whose class pickle stands at the start of its record.
    let root = b"\x80\x03cpersistent.mapping\nPersistentMapping\n";
    for (storage, is_plain) in [("plain", true), ("clients", false), ("try", true)] {
        let record = newest(serving.address(), storage, 0);
        assert_eq!((has(&record, root), has(&record, b".z\x78")), (is_plain, !is_plain), "{storage}: {record:?}");
        let info = info(serving.address(), storage);
        assert_eq!(info.contains("IStorageWrapper"), storage != "try", "{storage}: {info}");
    }
    assert_eq!(sandbox.run(&["zeopack", &format!("{}:plain", serving.address())]).code, 0);
    assert!(has(&newest(serving.address(), "plain", 0), root), "after a pack, too");
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn options_beside_a_configuration_win_over_it() {
    let sandbox = Sandbox::new();
    sandbox.file("zeo.conf", b"<zeo>\n address 1\n transaction-timeout 5\n</zeo>\n<mappingstorage a/>\n");
    let shown = sandbox.run(&[
        "serve",
        "Other.fs",
        "--config",
        "zeo.conf",
        "--listen",
        "localhost:2",
        "--name",
        "b",
        "--transaction-timeout",
        "7.5",
        "--check-config",
    ]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for wanted in ["localhost:2", "storage b     Other.fs", "7.5 s"] {
        assert!(shown.stdout.contains(wanted), "{}", shown.stdout);
    }
    assert!(!shown.stdout.contains("storage a") && !sandbox.path("Other.fs").exists());
}

/// The plan of each configuration, and the errors of others.
#[test]
fn configurations_are_checked_without_being_served() {
    let sandbox = Sandbox::new();
    sandbox
        .file(
            "zeo.conf",
            b"%define VAR .
<zeo>
  address localhost:8100
  read-only true
  transaction-timeout 300
</zeo>
<filestorage 1>
  path $VAR/Data.fs
  blob-dir $VAR/blobs
  quota 10 GB
  pack-gc false
</filestorage>
<demostorage try>
  <filestorage base>
    path $VAR/Base.fs
    read-only yes
  </filestorage>
</demostorage>
<runner>
  program /usr/bin/runzeo
</runner>
",
        )
        .file(
            "vellum.toml",
            br#"listen = ["127.0.0.1:8100", "./zeo.sock"]
invalidation-age = 3600

[storages.main.filestorage]
path = "Data.fs"
durability = "relaxed"
pack-keep-old = false

[storages.try.demostorage.base.filestorage]
path = "Base.fs"
read-only = true

[eventlog]
level = "warning"
logfile = [{ path = "STDERR", format = "%(levelname)s %(message)s" }]
"#,
        )
        .file("key.toml", b"listen = [\"8100\"]\n[storages.1.filestorage]\npath = \"a\"\npack-cg = true\n")
        .file("kind.toml", b"listen = [\"8100\"]\n[storages.1.filestore]\npath = \"a\"\n")
        .file("key.conf", b"<zeo>\n address 8100\n read_only on\n</zeo>\n<mappingstorage/>\n")
        .file("zlib.conf", b"<zeo>\n address 8100\n</zeo>\n<zlibstorage>\n <mappingstorage/>\n</zlibstorage>\n")
        .file(
            "ssl.conf",
            b"<zeo>\n address 8100\n <ssl>\n  certificate a\n  authenticate b\n </ssl>\n</zeo>\n<mappingstorage/>\n",
        )
        .file("folder.conf", b"<zeo>\n address 8100\n</zeo>\n<filestorage>\n path not/there/Data.fs\n</filestorage>\n");
    assert_session!(
        "cli-serve-config",
        sandbox.session(&[
            &["serve", "--config", "zeo.conf", "--check-config"],
            &["serve", "--config", "vellum.toml", "--check-config"],
            &["serve", "--config", "key.toml", "--check-config"],
            &["serve", "--config", "kind.toml", "--check-config"],
            &["serve", "--config", "key.conf"],
            &["serve", "--config", "key.conf", "--check-config"],
            &["serve", "--config", "zlib.conf"],
            &["serve", "--config", "ssl.conf"],
            &["serve", "--config", "ssl.conf", "--check-config"],
            &["serve", "--config", "folder.conf", "--check-config"],
            &["runzeo", "-a", "8100"],
            &["runzeo", "-f", "Data.fs"],
            &["runzeo", "-C", "zeo.conf", "-X", "zoe/address=1"],
        ])
    );
    assert_eq!(are_there(&sandbox, &["Data.fs", "Base.fs", "blobs"]), [false; 3]);
}

/// A database with a past, and an object that nothing refers to.
fn with_garbage(path: &Path) {
    let clock = ManualClock::at("2026-11-20T12:00:00Z".parse().unwrap());
    let storage = vellum_file::Options::new().clock(Arc::new(clock)).create(path).unwrap();
    let empty = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\x04\0\0\0data}s.";
    let mut root = Tid::ZERO;
    for oid in [Oid::ROOT, Oid(1), Oid::ROOT] {
        let mut draft = storage.begin(TransactionMeta::new()).unwrap();
        draft.store(oid, if oid == Oid::ROOT { root } else { Tid::ZERO }, empty[..].into()).unwrap();
        let tid = storage.commit(draft).unwrap();
        root = if oid == Oid::ROOT { tid } else { root };
    }
}

/// A pack that a client asks for keeps the old file, or does not, as the configuration says; and collects, or does not.
#[test]
fn a_pack_over_the_wire_is_done_as_the_configuration_says() {
    let mut sizes = Vec::new();
    for (keep_old, gc) in [("true", "true"), ("false", "true"), ("false", "false")] {
        let sandbox = Sandbox::new();
        let text = format!(
            "<zeo>\n address ./zeo.sock\n</zeo>\n<filestorage>\n path Data.fs\n pack-keep-old {keep_old}\n \
             pack-gc {gc}\n</filestorage>\n"
        );
        sandbox.file("zeo.conf", text.as_bytes());
        with_garbage(&sandbox.path("Data.fs"));
        let before = std::fs::read(sandbox.path("Data.fs")).unwrap();
        let serving = Serving::start(&mut sandbox.command(&["serve", "--config", "zeo.conf"]), 1);
        let packed = sandbox.run(&["zeopack", "-u", "zeo.sock"]);
        assert_eq!((packed.code, packed.stdout.as_str(), packed.stderr.as_str()), (0, "", ""));
        let (code, said) = serving.end();
        assert_eq!(code, Some(0), "{said}");
        let old = std::fs::read(sandbox.path("Data.fs.old")).ok();
        assert_eq!(old, (keep_old == "true").then(|| before.clone()));
        sizes.push(std::fs::metadata(sandbox.path("Data.fs")).unwrap().len());
    }
    assert!(sizes[0] == sizes[1] && sizes[1] < sizes[2], "{sizes:?}");
}

/// The service manager is told when clients can connect, and when the end has begun.
#[test]
fn the_service_manager_hears_of_readiness() {
    let sandbox = Sandbox::new();
    let socket = UnixDatagram::bind(sandbox.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0"]);
    let serving = Serving::start(command.env("NOTIFY_SOCKET", sandbox.path("notify")), 1);
    let hear = || {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    serving.end();
    assert_eq!(hear(), "STOPPING=1");
}

#[test]
fn runzeo_serves_with_its_own_options() {
    let sandbox = Sandbox::new();
    let trial = sandbox.run(&["runzeo", "-a", "127.0.0.1:0", "-f", "One.fs", "-f", "Two.fs", "--test"]);
    assert_eq!((trial.code, trial.stdout.as_str()), (0, "testing exit immediately\n"), "{}", trial.stderr);
    let mut command =
        sandbox.command(&["runzeo", "--addr=127.0.0.1:0", "-fOne.fs", "--file", "Two.fs", "-t0.5", "--pid-f", "x.pid"]);
    let serving = Serving::start(&mut command, 1);
    assert!(info(serving.address(), "1").contains("One.fs"));
    assert!(info(serving.address(), "2").contains("Two.fs"));
    assert!(sandbox.path("x.pid").exists());
    serving.end();
    sandbox.file("zeo.conf", b"<zeo>\n address 1\n</zeo>\n<mappingstorage m/>\n");
    let mut command = sandbox.command(&["runzeo", "-C", "zeo.conf", "-X", "zeo/address=127.0.0.1:0"]);
    let serving = Serving::start(&mut command, 1);
    assert!(info(serving.address(), "m").contains("Mapping Storage"));
    for wrong in [["-m", "1"], ["x", "y"], ["-t", "soon"]] {
        assert_eq!(sandbox.run(&["runzeo", wrong[0], wrong[1]]).code, 2);
    }
}

#[test]
fn zeopack_says_what_is_wrong() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&mut sandbox.command(&["serve", "--listen", "./zeo.sock"]), 1);
    assert_session!(
        "cli-zeopack",
        sandbox.session(&[
            &["zeopack", "-u", "zeo.sock"],
            &["zeopack", "-d", "3", "-t", "02:30", "-u", "zeo.sock:1"],
            &["zeopack", "-U", "zeo.sock", "-S", "1"],
            &["zeopack", "-u", "zeo.sock:other", "--wait", "0"],
            &["zeopack", "-u", "gone.sock", "--wait", "0"],
            &["zeopack", "-u", "gone.sock", "-u", "zeo.sock", "--wait", "0"],
            &["zeopack", "127.0.0.1"],
            &["zeopack", "127.0.0.1:zeo"],
            &["zeopack", "-u", "a:b:c"],
            &["zeopack", "-h", "localhost"],
            &["zeopack", "-d", "3"],
            &["zeopack", "-t", "1:2:3:4", "127.0.0.1:1"],
        ])
    );
    serving.end();
}

#[test]
fn nagios_tells_of_servers_and_storages() {
    let sandbox = Sandbox::new();
    sandbox.golden("mail");
    sandbox.file(
        "zeo.conf",
        b"<zeo>\n address ./zeo.sock\n</zeo>\n<filestorage>\n path mail.fs\n</filestorage>\n<mappingstorage two/>\n",
    );
    let serving = Serving::start(&mut sandbox.command(&["serve", "--config", "zeo.conf"]), 1);
    let mut session = sandbox.session(&[
        &["nagios", "./zeo.sock"],
        &["nagios", "./zeo.sock", "--accept-empty"],
        &["nagios", "-m", "-s", "status.json", "./zeo.sock"],
        &["nagios", "gone.sock"],
        &["nagios", "127.0.0.1:1"],
    ]);
    let second = sandbox.run(&["nagios", "-m", "-s", "status.json", "./zeo.sock"]);
    write!(session, "\nthe second run tells {} lines\n", second.stdout.lines().count()).unwrap();
    assert!(
        second.stdout.contains("\n commits=0.0\n") && second.stdout.contains(" two:loads=0.0"),
        "{}",
        second.stdout
    );
    assert_session!("cli-nagios", session);
    serving.end();
}

/// The files that other programs write, unedited except for the folders and the port.
#[test]
fn files_of_the_field_are_served() {
    let variables = [("ZEO_READ_ONLY", "false"), ("ZEO_INVALIDATION_QUEUE_SIZE", "100"), ("ZEO_PACK_KEEP_OLD", "true")];
    let cases: [(&str, &[&str], &[&str]); 3] = [
        (
            "container",
            &["1"],
            &["data/filestorage/Data.fs", "data/blobstorage/.layout", "data/log/zeo.log", "app/var/zeo.pid"],
        ),
        (
            "buildout",
            &["1", "catalog"],
            &[
                "srv/site/var/filestorage/Data.fs",
                "srv/site/var/blobstorage/.layout",
                "srv/site/var/filestorage/Catalog.fs",
                "srv/site/var/zeoserver.pid",
            ],
        ),
        ("documentation", &["1", "demo"], &["srv/site/mydata.fs", "srv/site/base.fs", "srv/site/zeo.log"]),
    ];
    for (name, storages, files) in cases {
        let sandbox = Sandbox::new();
        let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/conf").join(format!("{name}.conf"));
        let (root, port) = (sandbox.path("root"), free_port().to_string());
        let text = std::fs::read_to_string(conf).unwrap().replace("8100", &port);
        let text = ["/app", "/data", "/srv"]
            .iter()
            .fold(text, |text, folder| text.replace(&format!(" {folder}"), &format!(" {}{folder}", root.display())));
        sandbox.file("zeo.conf", text.as_bytes());
        let mut command = sandbox.command(&["serve", "--make-folders", "--config", "zeo.conf"]);
        command.envs(variables).env("ZEO_PORT", &port);
        let serving = Serving::start(&mut command, 1);
        let address = format!("127.0.0.1:{port}");
        for storage in storages {
            let told = info(&address, storage);
            assert!(told.contains("IStorage"), "{name} {storage}: {told}");
            let keeps_blobs = *storage == "1" && name != "documentation";
            assert_eq!(told.contains("IBlobStorage"), keeps_blobs, "{name} {storage}: {told}");
        }
        for file in files {
            assert!(root.join(file).exists(), "{name}: {file}");
        }
        let (code, said) = serving.end();
        assert_eq!(code, Some(0), "{name}: {said}");
    }
}

/// The promises of `contrib/Dockerfile` to users of plone/plone-zeo, and that its entry point serves.
#[test]
fn the_container_is_the_one_that_plone_runs() {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib");
    let text = std::fs::read_to_string(contrib.join("Dockerfile")).unwrap().replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let last = |word: &str| lines.iter().rev().find(|(first, _)| *first == word).map(|(_, rest)| rest.trim()).unwrap();
    assert_eq!((last("EXPOSE"), last("VOLUME"), last("USER"), last("WORKDIR")), ("8100", "/data", "plone", "/app"));
    assert!(text.contains("useradd --system -m -d /app -U -u 500 plone"));
    let variables: Vec<(&str, &str)> = last("ENV").split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    let wanted = [
        ("ZEO_PORT", "8100"),
        ("ZEO_READ_ONLY", "false"),
        ("ZEO_INVALIDATION_QUEUE_SIZE", "100"),
        ("ZEO_PACK_KEEP_OLD", "true"),
    ];
    assert_eq!(variables, wanted);
    let words = |json: &str| serde_json::from_str::<Vec<String>>(json).expect("no shell");
    let (entry, command) = (words(last("ENTRYPOINT")), words(last("CMD")));
    let health = words(last("HEALTHCHECK").split_once("CMD ").unwrap().1);
    assert_eq!((entry.join(" "), health[0].as_str()), ("/app/bin/vellum".to_owned(), "/app/bin/vellum"));

    // The same in a folder instead of the container's /.
    let sandbox = Sandbox::new();
    let root = sandbox.path("root");
    std::fs::create_dir_all(root.join("app/etc")).unwrap();
    let conf = std::fs::read_to_string(contrib.join("zeo.conf")).unwrap();
    let conf = conf.replace("%define DATA /data", &format!("%define DATA {}/data", root.display()));
    std::fs::write(root.join("app/etc/zeo.conf"), conf).unwrap();
    let moved = |word: &String| word.replace("/app/etc", &root.join("app/etc").display().to_string());
    let command: Vec<String> = command.iter().map(moved).collect();
    let port = free_port().to_string();
    let start = |words: &[String]| {
        let mut command = sandbox.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        command.envs(variables.iter().copied()).env("ZEO_PORT", &port);
        command
    };
    let serving = Serving::start(&mut start(&command), 1);
    assert_eq!(serving.address(), format!("0.0.0.0:{port}"));
    assert!(root.join("data/filestorage/Data.fs").exists() && root.join("data/log/zeo.log").exists());
    assert!(root.join("data/blobstorage/.layout").exists());
    let healthy = start(&health[1..]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&healthy.stdout), "OK\n");
    let (code, said) = serving.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(start(&health[1..]).output().unwrap().status.code(), Some(2));
}
