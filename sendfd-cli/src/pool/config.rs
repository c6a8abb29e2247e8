//! What a pool is told: in a file of TOML, by flags, or both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::args::PoolArgs;
use crate::address::Address;
use crate::exit::{Failure, Result};
use crate::timeout::duration;
use sendfd_core::Port;

/// Who gets the next connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// One after the other
    #[default]
    RoundRobin,
    /// Whose queue is shortest, by the kernel's count
    ShortestQueue,
    /// The same client to the same worker, by its address (IPv6: by /64)
    Source,
}

impl Policy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round-robin",
            Policy::ShortestQueue => "shortest-queue",
            Policy::Source => "source",
        }
    }
}

/// Everything, with defaults in place.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) listen: Vec<ListenConfig>,
    pub(crate) workers: Vec<WorkerConfig>,
    pub(crate) policy: Policy,
    pub(crate) port: Port,
    pub(crate) status: Option<SocketAddr>,
    pub(crate) drain: Duration,
    pub(crate) boot: Duration,
    pub(crate) waiting: usize,
    /// Whether words about the connection travel with it.
    pub(crate) describe: bool,
    pub(crate) user: Option<String>,
    pub(crate) take_over: Option<u32>,
}

/// An address, and the names of the workers that serve it: all, where none are named.
#[derive(Clone, Debug)]
pub(crate) struct ListenConfig {
    pub(crate) address: Address,
    pub(crate) workers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerConfig {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(deserialize_with = "words")]
    pub(crate) command: Vec<String>,
    #[serde(default = "one", deserialize_with = "count")]
    pub(crate) count: u32,
    pub(crate) user: Option<String>,
    pub(crate) directory: Option<PathBuf>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
}

impl WorkerConfig {
    pub(crate) fn new(
        name: Option<String>,
        count: u32,
        command: &str,
    ) -> std::result::Result<Self, String> {
        let command = split(command)?;
        check_count(count)?;
        let mut worker = WorkerConfig {
            name: name.unwrap_or_default(),
            command,
            count,
            user: None,
            directory: None,
            environment: BTreeMap::new(),
        };
        worker.complete();
        Ok(worker)
    }

    /// A worker without a name has its program's.
    fn complete(&mut self) {
        if self.name.is_empty() {
            let program = self.command.first().map_or("", String::as_str);
            let name = Path::new(program).file_name().unwrap_or_default();
            self.name = name.to_string_lossy().into_owned();
        }
    }
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    listen: Vec<Listen>,
    #[serde(default, rename = "worker")]
    workers: Vec<WorkerConfig>,
    policy: Option<Policy>,
    #[serde(default, deserialize_with = "port")]
    port: Option<Port>,
    status: Option<SocketAddr>,
    #[serde(default, deserialize_with = "time")]
    drain: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    boot: Option<Duration>,
    waiting: Option<u32>,
    #[serde(default)]
    describe: bool,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "ListenForm")]
struct Listen(ListenConfig);

/// An address alone, or a table.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an address, or a table with address and workers"
)]
enum ListenForm {
    Address(String),
    Table {
        address: String,
        #[serde(default)]
        workers: Vec<String>,
    },
}

impl TryFrom<ListenForm> for Listen {
    type Error = String;

    fn try_from(form: ListenForm) -> std::result::Result<Self, String> {
        let (address, workers) = match form {
            ListenForm::Address(address) => (address, Vec::new()),
            ListenForm::Table { address, workers } => (address, workers),
        };
        let address = address.parse()?;
        Ok(Listen(ListenConfig { address, workers }))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or a string")]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl NumberOrText {
    fn text(self) -> String {
        match self {
            NumberOrText::Number(number) => number.to_string(),
            NumberOrText::Text(text) => text,
        }
    }
}

fn port<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Port>, D::Error> {
    let text = NumberOrText::deserialize(from)?.text();
    text.parse().map(Some).map_err(D::Error::custom)
}

fn time<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Duration>, D::Error> {
    let text = NumberOrText::deserialize(from)?.text();
    duration(&text).map(Some).map_err(D::Error::custom)
}

fn words<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a command, as a string or a list of words")]
    enum Form {
        Line(String),
        Words(Vec<String>),
    }
    match Form::deserialize(from)? {
        Form::Line(line) => split(&line).map_err(D::Error::custom),
        Form::Words(words) if words.is_empty() => Err(D::Error::custom("the command is empty")),
        Form::Words(words) => Ok(words),
    }
}

fn count<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u32, D::Error> {
    let count = u32::deserialize(from)?;
    check_count(count).map_err(D::Error::custom)?;
    Ok(count)
}

fn check_count(count: u32) -> std::result::Result<(), String> {
    if (1..=1024).contains(&count) {
        Ok(())
    } else {
        Err("a worker is started from 1 to 1024 times".to_owned())
    }
}

fn one() -> u32 {
    1
}

/// Words as a shell would part them, without anything else of a shell.
fn split(line: &str) -> std::result::Result<Vec<String>, String> {
    match shlex::split(line) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("the command is empty".to_owned()),
        None => Err(format!("a quotation mark is missing in {line:?}")),
    }
}

impl Config {
    /// What the file says, replaced by what the flags say.
    pub(crate) fn of(args: PoolArgs) -> Result<Self> {
        let file = args.config.as_deref().map_or(Ok(File::default()), read)?;
        let listen = if args.listen.is_empty() {
            file.listen.into_iter().map(|listen| listen.0).collect()
        } else {
            let everybody = |address| ListenConfig {
                address,
                workers: Vec::new(),
            };
            args.listen.into_iter().map(everybody).collect()
        };
        let mut workers = if args.worker.is_empty() {
            file.workers
        } else {
            args.worker
        };
        workers.iter_mut().for_each(WorkerConfig::complete);
        let default_port = Port::new(1)?;
        let seconds = Duration::from_secs;
        let config = Config {
            listen,
            workers,
            policy: args.policy.or(file.policy).unwrap_or_default(),
            port: args.port.or(file.port).unwrap_or(default_port),
            status: args.status.or(file.status),
            drain: args.drain.or(file.drain).unwrap_or(seconds(30)),
            boot: args.boot.or(file.boot).unwrap_or(seconds(30)),
            waiting: args.waiting.or(file.waiting).unwrap_or(128).max(1) as usize,
            describe: args.describe || file.describe,
            user: args.user.or(file.user),
            take_over: args.take_over,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if self.workers.is_empty() {
            return Err(Failure::usage(
                "no workers: name one with --worker COMMAND, or [[worker]] in the configuration",
            ));
        }
        for listen in &self.listen {
            for name in &listen.workers {
                if !self.workers.iter().any(|worker| worker.name == *name) {
                    return Err(Failure::usage(format!(
                        "listen {}: there is no worker {name:?}",
                        listen.address
                    )));
                }
            }
        }
        if self.user.is_some() && self.workers.iter().any(|worker| worker.user.is_some()) {
            return Err(Failure::usage(
                "a worker's user needs a pool that stays root: leave out the pool's own user, or the worker's",
            ));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<File> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        let message = error.message().replace('\n', " ");
        let Some(span) = error.span() else {
            return Failure::usage(format!("{name}: {message}"));
        };
        let before = text.get(..span.start).unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1).unwrap_or_default().trim();
        Failure::usage(format!("{name}, line {number} ({line}): {message}"))
    })
}
