//! Serving a plan, from the first file that is opened to the last connection that is closed.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};
use vellum_server::conf::{LogTarget, Plan, StorageConf};
use vellum_server::tls::{Certificates, Files};
use vellum_server::{Address, Codec, Config, Memory, Monitor, Server, ServerOptions};
use vellum_storage::SystemClock;
use vellum_terminal::{Failure, Out, Outcome, Run};

use super::logs::{Logs, to_stderr};
use super::process::{PidFile, notify};
use super::{addresses, storages};
use crate::ui::say;

/// Serves what a plan says until the process is told to end. With `is_trial` all is opened, and closed again at once.
pub fn run(plan: &Plan, out: &mut Out, now: Timestamp, manner: Manner) -> Run {
    tell_ignored(plan);
    let logs = Logs::start(&plan.event_log.clone().unwrap_or_else(|| to_stderr(20)), manner.logs_json)?;
    // Before the storages are opened: probes are answered during that, too.
    let monitor = manner.monitor.as_deref().map(listen_for_operators).transpose()?;
    let certificates = certificates(plan)?;
    let pid_file = PidFile::write(plan);
    for (name, storage) in &plan.storages {
        tracing::info!("opening storage {name}: {}", describe(storage));
    }
    let offer = |(name, conf): &(String, _)| storages::offer(name, conf, manner.keep);
    let (offered, packing): (Vec<_>, Vec<_>) =
        plan.storages.iter().map(offer).collect::<Run<Vec<_>>>()?.into_iter().unzip();
    let kept: Vec<_> = offered.iter().map(|offered| Arc::clone(&offered.store.storage)).collect();
    let addresses = addresses::expand(&plan.addresses)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server =
            Server::bind(&addresses, offered, Arc::new(SystemClock), options(plan, now, certificates.clone())?)
                .await
                .map_err(|error| Failure::Message(format!("cannot listen at {}: {error}", shown(&addresses))))?;
        if manner.is_trial {
            return Ok(());
        }
        // Before clients can connect: a signal then ends the process in order.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let reopening = tokio::spawn(reopen(logs.clone(), signal(SignalKind::user_defined2())?));
        let renewing = tokio::spawn(renew(logs, certificates, signal(SignalKind::hangup())?));
        if let Some(monitor) = &monitor {
            server.tell(monitor);
            tracing::info!("operators can ask at {}", monitor.address());
        }
        for address in server.addresses()? {
            tracing::info!("listening on {address}");
            writeln!(out, "listening on {address}")?;
            hint(&address);
        }
        out.flush()?;
        notify("READY=1");
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                say("ending at once");
                // Unfinished transactions are not in the databases: they are as after a crash, which loses nothing.
                std::process::exit(1);
            });
            notify("STOPPING=1");
            tracing::info!("ending: no client is accepted any more");
            say("ending: no client is accepted any more");
        };
        let ended = server.run(end).await;
        reopening.abort();
        renewing.abort();
        Ok::<_, Failure>(ended?)
    })?;
    // Work on other threads ends first, so that the databases are closed here.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(packing);
    drop(kept);
    drop(pid_file);
    Ok(Outcome::Fine)
}

/// How a plan is carried out.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// All is opened, and closed again at once.
    pub is_trial: bool,
    /// Where probes, metrics and `vellum status` are answered.
    pub monitor: Option<String>,
    /// How much history to keep, if databases in tables are packed in the background.
    pub keep: Option<Duration>,
    /// Whether logs are JSON, one object a line.
    pub logs_json: bool,
}

fn listen_for_operators(address: &str) -> Run<Monitor> {
    let monitor = Monitor::listen(address)
        .map_err(|error| Failure::Message(format!("cannot listen for operators at {address}: {error}")))?;
    say(&format!("operators: vellum status {}", monitor.address()));
    Ok(monitor)
}

/// With SIGHUP certificates are read again, and log files opened anew. No client is dropped.
async fn renew(logs: Logs, certificates: Option<Arc<Certificates>>, mut asked: tokio::signal::unix::Signal) {
    while asked.recv().await.is_some() {
        logs.reopen();
        match certificates.as_ref().map(|certificates| certificates.read_again()) {
            Some(Ok(())) => tracing::info!("the certificates were read again"),
            Some(Err(error)) => tracing::error!("{error}; the certificates stay as they were"),
            None => {}
        }
    }
}

async fn reopen(logs: Logs, mut asked: tokio::signal::unix::Signal) {
    while asked.recv().await.is_some() {
        logs.reopen();
    }
}

/// The certificates that a plan names.
fn certificates(plan: &Plan) -> Run<Option<Arc<Certificates>>> {
    let Some(tls) = &plan.tls else { return Ok(None) };
    let files =
        Files { certificate: tls.certificate.clone(), key: tls.key.clone(), authenticate: tls.authenticate.clone() };
    let read = Certificates::read(files).map_err(|error| Failure::Message(format!("{}: {error}", tls.place)))?;
    Ok(Some(Arc::new(read)))
}

fn options(plan: &Plan, now: Timestamp, tls: Option<Arc<Certificates>>) -> Run<ServerOptions> {
    // As ZEO has it: any text in the variable asks for it, unless the configuration says something.
    let environment = || std::env::var_os("ZEO_MSGPACK").is_some_and(|value| !value.is_empty());
    let codec = if plan.msgpack.unwrap_or_else(environment) { Codec::Msgpack } else { Codec::Pickle };
    let queue_size = usize::try_from(plan.invalidation_queue_size);
    Ok(ServerOptions {
        codec,
        config: Config {
            is_read_only: plan.read_only,
            transaction_timeout: plan.transaction_timeout,
            clients_resolve: plan.clients_resolve,
            offers_extensions: true,
            started: now.to_zoned(TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string(),
            memory: Memory::default(),
        },
        invalidation_queue_size: queue_size
            .map_err(|_| Failure::Message("invalidation-queue-size is too large".to_owned()))?,
        invalidation_age: plan.invalidation_age,
        tls,
        ..ServerOptions::default()
    })
}

/// Says what would be served, and opens nothing. Folders that are missing are problems.
pub fn check(plan: &Plan, out: &mut Out) -> Run {
    for address in &plan.addresses {
        out.field("listens at", show(address))?;
    }
    for (name, storage) in &plan.storages {
        out.field(&format!("storage {name}"), describe(storage))?;
    }
    if plan.read_only {
        out.field("clients", "may only read")?;
    }
    if let Some(timeout) = plan.transaction_timeout {
        out.field("timeout", format!("{} s after the vote", timeout.as_secs_f64()))?;
    }
    if let Some(tls) = &plan.tls {
        out.field("certificate", tls.certificate.display().to_string())?;
    }
    for file in plan.event_log.iter().flat_map(|log| &log.files) {
        let to = match &file.to {
            LogTarget::Stdout => "standard output".to_owned(),
            LogTarget::Stderr => "standard error".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        };
        let rotation = file.rotation.as_ref().map(|rotation| format!(", {rotation}"));
        out.field("log", to + &rotation.unwrap_or_default())?;
    }
    tell_ignored(plan);
    let refused = match certificates(plan) {
        Err(Failure::Message(why)) => Some(why),
        _ => None,
    };
    refused.iter().for_each(|why| say(why));
    let missing: Vec<_> = folders(plan).into_iter().filter(|folder| !folder.is_dir()).collect();
    for folder in &missing {
        say(&format!("{} is no folder: make it, or serve with --make-folders", folder.display()));
    }
    Ok(if missing.is_empty() && refused.is_none() { Outcome::Fine } else { Outcome::Problems })
}

/// Makes the folders that are missing, of all files that the plan names.
pub fn make_folders(plan: &Plan) -> Run<()> {
    for folder in folders(plan) {
        if !folder.exists() {
            let made = std::fs::create_dir_all(&folder);
            made.map_err(|error| Failure::Message(format!("{} cannot be made: {error}", folder.display())))?;
            say(&format!("{} is new", folder.display()));
        }
    }
    Ok(())
}

fn tell_ignored(plan: &Plan) {
    let mut told = BTreeSet::new();
    for ignored in &plan.ignored {
        if told.insert(ignored) {
            say(ignored);
        }
    }
}

/// The folders in which the plan's files are.
fn folders(plan: &Plan) -> BTreeSet<PathBuf> {
    let mut files: Vec<&Path> = Vec::new();
    files.extend(plan.pid_file.as_deref().filter(|_| !plan.read_only));
    for (_, storage) in &plan.storages {
        files_of(storage, &mut files);
    }
    for address in &plan.addresses {
        if let Address::Unix(path) = address {
            files.push(path);
        }
    }
    for file in plan.event_log.iter().flat_map(|log| &log.files) {
        if let LogTarget::File(path) = &file.to {
            files.push(path);
        }
    }
    let parents = files.into_iter().filter_map(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    parents.map(Path::to_path_buf).collect()
}

fn files_of<'a>(storage: &'a StorageConf, files: &mut Vec<&'a Path>) {
    match storage {
        StorageConf::File(file) => {
            files.push(&file.path);
            files.extend(file.blob_dir.as_deref());
        }
        StorageConf::Mapping { .. } => {}
        StorageConf::Demo { base, changes, .. } => {
            base.iter().chain(changes).for_each(|storage| files_of(storage, files));
        }
        StorageConf::Compressed { base, .. } => files_of(base, files),
    }
}

fn describe(storage: &StorageConf) -> String {
    match storage {
        StorageConf::File(file) => {
            let mut text = file.path.display().to_string();
            let packs = [(file.pack_gc, ", packed without collecting"), (file.pack_keep_old, ", packed without .old")];
            text.push_str(if file.read_only { ", only read" } else { "" });
            text.push_str(if file.create { ", made anew at each start" } else { "" });
            packs.iter().filter(|(is_on, _)| !is_on).for_each(|(_, what)| text.push_str(what));
            text.push_str(if file.history_free { ", history-free" } else { "" });
            if let Some(quota) = file.quota {
                text.push_str(&format!(", at most {quota} bytes"));
            }
            if let Some(blobs) = &file.blob_dir {
                text.push_str(&format!("; blobs in {}", blobs.display()));
            }
            text
        }
        StorageConf::Mapping { .. } => "in memory".to_owned(),
        StorageConf::Demo { base, changes, .. } => {
            let part =
                |part: &Option<Box<StorageConf>>| part.as_ref().map_or("in memory".to_owned(), |it| describe(it));
            format!("changes ({}) over ({})", part(changes), part(base))
        }
        StorageConf::Compressed { compress, for_clients, base, .. } => {
            let what = match (for_clients, compress) {
                (true, true) => "compressed by clients",
                (true, false) => "compressed by clients, merged records plain",
                (false, true) => "compressed",
                (false, false) => "compressed until now",
            };
            format!("{what} ({})", describe(base))
        }
    }
}

fn show(address: &Address) -> String {
    match address {
        Address::Tcp(address) => address.clone(),
        Address::Unix(path) => path.display().to_string(),
    }
}

fn shown(addresses: &[Address]) -> String {
    addresses.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// How to connect from Python.
fn hint(address: &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if !address.contains('/') => {
            let host = if ["0.0.0.0", "[::]"].contains(&host) { "127.0.0.1" } else { host };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            say(&format!("from Python: import ZEO; db = ZEO.DB(('{host}', {port}))"));
        }
        _ => say(&format!("from Python: import ZEO; db = ZEO.DB('{address}')")),
    }
}
