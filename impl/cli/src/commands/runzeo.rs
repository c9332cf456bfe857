//! `vellum runzeo`: what `vellum serve` does, with the options of ZEO's own server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use vellum_server::conf::{FileStorageConf, Plan, StorageConf, SystemSource};
use vellum_terminal::{Failure, Out, Outcome, Run};

use super::serve::{address, seconds};
use crate::serving::{self, Manner};

/// Serve databases, with the options of ZEO's `runzeo`
#[derive(Args)]
#[command(infer_long_args = true)]
#[command(after_help = "\
Unless you give -C, give -a and -f. Options beside -C win over the
configuration. In scripts that start `runzeo`, write `vellum runzeo` instead.

  vellum runzeo -C /etc/zeo.conf
  vellum runzeo -a 8100 -f Data.fs -t 300
  vellum runzeo -C /etc/zeo.conf -X zeo/address=localhost:8200")]
pub struct Runzeo {
    /// The configuration
    #[arg(short = 'C', long = "configure", value_name = "FILE")]
    configure: Option<String>,
    /// Where to listen: PORT, HOST:PORT, or a path with a slash
    #[arg(short, long, value_name = "ADDRESS")]
    address: Option<String>,
    /// A database; the first is storage 1, the second storage 2, and so on
    #[arg(short, long, value_name = "FILENAME")]
    filename: Vec<PathBuf>,
    /// Abort a transaction if it is not finished so many seconds after its vote
    #[arg(short, long, value_name = "TIMEOUT", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Write the process id to this file
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Override a value of the configuration
    #[arg(short = 'X', value_name = "SECTION/KEY=VALUE")]
    values: Vec<String>,
    /// Open everything, and end
    #[arg(long, hide = true)]
    test: bool,
}

impl Runzeo {
    pub fn run(self, out: &mut Out, now: Timestamp) -> Run {
        let is_trial = self.test;
        let outcome = serving::run(&self.plan()?, out, now, Manner { is_trial, ..Manner::default() })?;
        if is_trial {
            std::io::Write::write_all(out, b"testing exit immediately\n")?;
        }
        Ok::<Outcome, Failure>(outcome)
    }

    fn plan(self) -> Run<Plan> {
        let message = |text: &str| Failure::Message(text.to_owned());
        let mut plan = match &self.configure {
            Some(name) => {
                let name = name.strip_prefix("file://").unwrap_or(name);
                let read = Plan::of_zeo_conf_with(Path::new(name), &SystemSource, &self.values);
                read.map_err(|error| Failure::Message(error.to_string()))?
            }
            None if !self.values.is_empty() => return Err(message("-X is for values of a configuration; use -C")),
            None => Plan::new(),
        };
        if let Some(text) = &self.address {
            plan.addresses = vec![address(text)?];
        }
        if !self.filename.is_empty() {
            let storage = |path: PathBuf| StorageConf::File(FileStorageConf::new(path));
            let names = (1..).map(|n: u64| n.to_string());
            plan.storages = names.zip(self.filename.into_iter().map(storage)).collect();
        }
        if plan.addresses.is_empty() {
            return Err(message("no server address specified; use -a or -C"));
        }
        if plan.storages.is_empty() {
            return Err(message("no storages specified; use -f or -C"));
        }
        plan.transaction_timeout = self.timeout.or(plan.transaction_timeout);
        plan.pid_file = self.pid_file.or(plan.pid_file);
        Ok(plan)
    }
}
