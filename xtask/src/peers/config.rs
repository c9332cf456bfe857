//! Configurations, as ZConfig with ZEO's schema reads them and as we do: the same values, or a refusal by both.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vellum_server::Address;
use vellum_server::conf::{LogTarget, Plan, Source, StorageConf, SystemSource};

use super::dice::Dice;
use super::{Ground, Trouble, ensure};
use crate::venv;

/// Files as they are on the disk, and variables that were made up.
struct Made<'a> {
    variables: &'a BTreeMap<String, String>,
}

impl Source for Made<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        SystemSource.read(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

/// A configuration: its files, and the environment.
#[derive(Default)]
struct Case {
    files: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

const BOOLEANS: [&str; 12] = ["yes", "true", "on", "no", "false", "off", "ON", "True", "1", "0", "", "maybe"];
const INTEGERS: [&str; 9] = ["0", "7", "100", "1_000", "007", "1.5", "12a", "", "0x10"];
const FLOATS: [&str; 8] = ["0", "1.5", "1e3", "3600", ".5", "1h", "", "5 "];
const SIZES: [&str; 10] = ["0", "12", "10KB", "10 MB", "1gb", "20M", "1.5MB", "2TB", "", "5  kb"];
const LEVELS: [&str; 10] = ["info", "WARN", "blather", "15", "0", "50", "51", "loud", "debug", "fatal"];
const ADDRESSES: [&str; 10] = [
    "8100",
    ":8100",
    "localhost:8100",
    "LOCALHOST:1",
    "[::1]:8100",
    "127.0.0.1:8100",
    "./s.sock",
    "a:b",
    "host:70000",
    "127.0.0.1:8100 # comment",
];
/// Lines that may be anywhere, most of them wrong.
const ODD: [&str; 22] = [
    "# a comment",
    "%define x y",
    "%define X z",
    "%define once $name",
    "%define",
    "%undefine x",
    "% define x y",
    "nonsense 5",
    "<mappingstorage odd/>",
    "<mappingstorage odd />",
    "<mappingstorage>",
    "</mappingstorage>",
    "<zeo>",
    "<odd/>",
    "read_only yes",
    "$name x",
    "%import ZODB",
    "%import no.such.package",
    "(odd)",
    "< zeo>",
    "<MappingStorage Other></mappingstorage>",
    "%include gone.conf",
];
const VALUES: [&str; 10] =
    ["plain", "$name", "${name}", "$(SET)", "$(UNSET)", "$$name", "${name", "$", "$nothing", "a$(SET)b${NAME}c"];

/// Configurations that are made up.
const CASES: u64 = 400;
/// So many differences are shown.
const SHOWN_MAX: usize = 8;

/// Compares a few hundred configurations.
pub fn check(ground: &Ground) -> Result<String, Trouble> {
    let mut dice = Dice::new(ground.seed);
    let folder = ground.path("config");
    let mut cases = fixtures()?;
    cases.extend((0..CASES).map(|_| case(&mut dice)));
    for (n, case) in cases.iter().enumerate() {
        let folder = folder.join(n.to_string());
        std::fs::create_dir_all(folder.join("more"))?;
        for (name, text) in &case.files {
            std::fs::write(folder.join(name), text)?;
        }
        std::fs::write(folder.join("env.json"), serde_json::to_vec(&case.variables)?)?;
    }
    let output = Command::new(&ground.python).arg(venv::script("config.py")).arg(&folder).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let said = String::from_utf8(output.stdout)?;
    let said: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure(said.len() == cases.len(), || format!("{} answers to {} configurations", said.len(), cases.len()))?;
    let (mut accepted, mut refused, mut differ) = (0, 0, Vec::new());
    for (n, (case, theirs)) in cases.iter().zip(&said).enumerate() {
        let ours =
            Plan::of_zeo_conf(&folder.join(n.to_string()).join("zeo.conf"), &Made { variables: &case.variables });
        let fits = match (&ours, theirs.get("ok")) {
            (Ok(plan), Some(values)) => values_of(plan) == *values,
            (Err(_), None) => true,
            _ => false,
        };
        if !fits {
            let ours = ours.as_ref().map_or_else(ToString::to_string, |plan| values_of(plan).to_string());
            let files = case.files.iter().map(|(name, text)| format!("{name}:\n{text}")).collect::<String>();
            differ.push(format!("configuration {n}:\n{files}we say {ours}\nZConfig says {theirs}\n"));
        }
        *(if ours.is_ok() { &mut accepted } else { &mut refused }) += 1;
    }
    let shown = differ.iter().take(SHOWN_MAX).map(String::as_str).collect::<String>();
    ensure(differ.is_empty(), || format!("{} of {} differ:\n{shown}", differ.len(), cases.len()))?;
    ensure(accepted > CASES / 10 && refused > CASES / 10, || format!("{accepted} are good, and {refused} are not"))?;
    Ok(format!("{accepted} configurations with the same values, {refused} that both refuse"))
}

/// The files of the field, which are not to be refused.
fn fixtures() -> Result<Vec<Case>, Trouble> {
    let mut cases = Vec::new();
    for name in ["container.conf", "buildout.conf", "documentation.conf"] {
        let text = std::fs::read_to_string(venv::workspace().join("fixtures/conf").join(name))?;
        // The folders are those of another machine.
        let text = text.replace("/srv/site/", "").replace("/app", ".").replace("/data/", "./").replace("/data", ".");
        let variables = [
            ("ZEO_PORT", "8100"),
            ("ZEO_READ_ONLY", "false"),
            ("ZEO_INVALIDATION_QUEUE_SIZE", "100"),
            ("ZEO_PACK_KEEP_OLD", "true"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let text: String = text.lines().map(|line| format!("{}\n", flat(line))).collect();
        cases.push(Case { files: [("zeo.conf".to_owned(), text)].into(), variables });
    }
    Ok(cases)
}

/// A path without its folders, which both would look for.
fn flat(line: &str) -> String {
    match line.trim_start().split_once(' ') {
        Some((key @ ("path" | "blob-dir" | "pid-filename" | "socket-name" | "logfile"), path)) => {
            format!("{key} {}", path.rsplit('/').next().unwrap_or_default())
        }
        Some(("directory", _)) => "directory .".to_owned(),
        _ => line.to_owned(),
    }
}

/// Makes up a configuration: most of it is right, so that the first error is not always the same.
fn case(dice: &mut Dice) -> Case {
    let mut case = Case::default();
    case.variables.insert("SET".to_owned(), dice.pick(&["value", "", "a b", "$name"]).to_owned());
    let mut text = String::new();
    if dice.one_in(2) {
        text.push_str("%define name some\n");
    }
    if dice.one_in(2) {
        text.push_str("%import zc.zlibstorage\n");
    }
    let zeo = zeo(dice);
    if dice.one_in(4) {
        case.files.insert("more/zeo.conf".to_owned(), format!("%define late later\n{zeo}"));
        text.push_str("%include more/zeo.conf\n");
    } else {
        text.push_str(&zeo);
    }
    for n in 0..dice.below(3) + u64::from(!dice.one_in(10)) {
        let name = match dice.below(4) {
            0 if n == 0 => String::new(),
            0 => " same".to_owned(),
            1 => format!(" Store{n}"),
            _ => format!(" {n}"),
        };
        storage(dice, &name, 0, &mut text);
    }
    if dice.one_in(2) {
        log(dice, &mut text);
    }
    if dice.one_in(5) {
        let mut lines: Vec<&str> = text.lines().collect();
        let at = dice.below(lines.len() as u64 + 1) as usize;
        lines.insert(at, dice.pick(&ODD));
        text = lines.join("\n");
    }
    case.files.insert("zeo.conf".to_owned(), text);
    case
}

/// A value, which is one of the first ones more often.
fn value<'a>(dice: &mut Dice, from: &[&'a str]) -> &'a str {
    let end = if dice.one_in(6) { from.len() } else { from.len().min(3) };
    dice.pick(&from[..end])
}

fn zeo(dice: &mut Dice) -> String {
    let mut text = String::from("<zeo>\n");
    text.push_str(&format!("  address {}\n", value(dice, &ADDRESSES)));
    let keys: [(&str, &[&str]); 7] = [
        ("read-only", &BOOLEANS),
        ("invalidation-queue-size", &INTEGERS),
        ("invalidation-age", &FLOATS),
        ("transaction-timeout", &INTEGERS),
        ("Client-Conflict-Resolution", &BOOLEANS),
        ("msgpack", &BOOLEANS),
        ("pid-filename", &VALUES),
    ];
    for (key, values) in keys {
        if dice.one_in(3) {
            text.push_str(&format!("  {key}  {}\n", value(dice, values)));
        }
    }
    text + "</zeo>\n"
}

fn storage(dice: &mut Dice, name: &str, deep: u64, text: &mut String) {
    let indent = "  ".repeat(deep as usize);
    match dice.below(if deep < 3 { 7 } else { 2 }) {
        0 | 1 => {
            text.push_str(&format!("{indent}<FileStorage{name}>\n{indent}  path {}\n", value(dice, &VALUES)));
            let keys: [(&str, &[&str]); 5] = [
                ("blob-dir", &VALUES),
                ("read-only", &BOOLEANS),
                ("quota", &SIZES),
                ("pack-gc", &BOOLEANS),
                ("pack-keep-old", &BOOLEANS),
            ];
            for (key, values) in keys {
                if dice.one_in(4) {
                    text.push_str(&format!("{indent}  {key} {}\n", value(dice, values)));
                }
            }
            text.push_str(&format!("{indent}</filestorage>\n"));
        }
        2 | 3 => {
            text.push_str(&format!("{indent}<mappingstorage{name}>\n{indent}  name {}\n", value(dice, &VALUES)));
            text.push_str(&format!("{indent}</mappingstorage>\n"));
        }
        4 => {
            text.push_str(&format!("{indent}<demostorage{name}>\n"));
            for name in ["", " base", " changes", " Changes"] {
                if dice.one_in(3) {
                    storage(dice, name, deep + 1, text);
                }
            }
            text.push_str(&format!("{indent}</demostorage>\n"));
        }
        5 => {
            text.push_str(&format!("{indent}<blobstorage{name}>\n"));
            if !dice.one_in(8) {
                text.push_str(&format!("{indent}  blob-dir {}\n", value(dice, &VALUES)));
            }
            if !dice.one_in(8) {
                storage(dice, "", deep + 1, text);
            }
            text.push_str(&format!("{indent}</blobstorage>\n"));
        }
        _ => {
            let kind = dice.pick(&["zlibstorage", "serverzlibstorage"]);
            text.push_str(&format!("{indent}<{kind}{name}>\n"));
            if dice.one_in(2) {
                text.push_str(&format!("{indent}  compress {}\n", value(dice, &BOOLEANS)));
            }
            if !dice.one_in(8) {
                storage(dice, "", deep + 1, text);
            }
            text.push_str(&format!("{indent}</{kind}>\n"));
        }
    }
}

fn log(dice: &mut Dice, text: &mut String) {
    text.push_str(&format!("<eventlog>\n  level {}\n", value(dice, &LEVELS)));
    for _ in 0..dice.below(3) {
        text.push_str(&format!("  <logfile>\n    path {}\n", dice.pick(&["STDOUT", "STDERR", "x.log"])));
        if dice.one_in(2) {
            text.push_str(&format!("    level {}\n", value(dice, &LEVELS)));
        }
        let formats = ["%(message)s", "%(asctime)s %(levelname)-8s", "%(nothing)s", "100%% %(name)s", "%(message"];
        if dice.one_in(2) {
            text.push_str(&format!("    format {}\n", value(dice, &formats)));
        }
        text.push_str("  </logfile>\n");
    }
    text.push_str("</eventlog>\n");
}

/// The values by their names in `config.py`.
fn values_of(plan: &Plan) -> Value {
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
    let address = match &plan.addresses[0] {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => path.display().to_string(),
    };
    let storages: Vec<_> = plan.storages.iter().map(|(name, storage)| json!([name, of(storage)])).collect();
    let log = plan.event_log.as_ref().map(|log| {
        let target = |to: &LogTarget| match to {
            LogTarget::Stdout => "STDOUT".to_owned(),
            LogTarget::Stderr => "STDERR".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        };
        json!([log.level, log.files.iter().map(|file| json!([target(&file.to), file.level])).collect::<Vec<_>>()])
    });
    json!({
        "address": address,
        "read_only": plan.read_only,
        "invalidation_queue_size": plan.invalidation_queue_size,
        "invalidation_age": seconds(plan.invalidation_age),
        "transaction_timeout": plan.transaction_timeout.map(|time| time.as_secs()),
        "pid_file": plan.pid_file,
        "clients_resolve": plan.clients_resolve,
        "msgpack": plan.msgpack,
        "storages": storages,
        "log": log,
    })
}

fn of(storage: &StorageConf) -> Value {
    match storage {
        StorageConf::File(file) => json!({
            "kind": "filestorage",
            "path": file.path,
            "blob_dir": file.blob_dir,
            "create": file.create,
            "read_only": file.read_only,
            "quota": file.quota,
            "pack_gc": file.pack_gc,
            "pack_keep_old": file.pack_keep_old,
        }),
        StorageConf::Mapping { title } => json!({ "kind": "mappingstorage", "name": title }),
        StorageConf::Demo { title, base, changes } => json!({
            "kind": "demostorage",
            "name": title,
            "base": base.as_deref().map(of),
            "changes": changes.as_deref().map(of),
        }),
        StorageConf::Compressed { compress, for_clients, base, .. } => json!({
            "kind": if *for_clients { "serverzlibstorage" } else { "zlibstorage" },
            "compress": compress,
            "base": of(base),
        }),
    }
}
