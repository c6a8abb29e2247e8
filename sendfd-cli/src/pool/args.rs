//! The pool's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::config::{Policy, WorkerConfig};
use crate::address::Address;
use crate::timeout::duration;
use sendfd_core::Port;

/// Accept connections and hand each, by pid, to a worker in any language
///
/// Starts the workers, with SENDFD_PORT (the number of the signal that they are to open a receiver on) in
/// their environment; starts again what dies; waits for what boots; leaves out what is full. Nothing is
/// proxied: the worker has the client's own socket. Each message carries one connection; its tag is the
/// listener's index.
///
/// SIGHUP reloads: one worker after the other, each new one listening before its predecessor is told to
/// retire, with SIGTERM. SIGTERM and SIGINT drain: no new connections, what was accepted is handed over,
/// the workers get SIGTERM and --drain to finish. Sockets of systemd (LISTEN_FDS) are listened on, too.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// Where to listen: HOST:PORT, [IPV6]:PORT, :PORT (port 0: any), a path, or @NAME. May be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<Address>,
    /// What to start, without a shell: `[NAME=][N*]COMMAND`, N times. May be repeated
    #[arg(long, value_name = "WORKER", value_parser = worker)]
    pub(crate) worker: Vec<WorkerConfig>,
    /// Who gets the next connection [default: round-robin]
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Policy>,
    /// The port that the workers listen on, and the pool for its successor [default: 1]
    #[arg(long)]
    pub(crate) port: Option<Port>,
    /// A configuration in TOML. What is also given here replaces what it says
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Serve a page to watch, status.json and Prometheus' metrics there (HOST:PORT)
    #[arg(long, value_name = "ADDR")]
    pub(crate) status: Option<std::net::SocketAddr>,
    /// How long a worker that is told to stop may take to finish [default: 30]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) drain: Option<Duration>,
    /// How long a worker may take to open its receiver [default: 30]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) boot: Option<Duration>,
    /// How many connections may wait here for a worker before no more are accepted [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) waiting: Option<u32>,
    /// Send `listener=INDEX peer=ADDRESS` along as data. Not for workers that take data for bytes that were
    /// read from the connection
    #[arg(long)]
    pub(crate) describe: bool,
    /// The user that the pool becomes when it has bound its addresses: a name or UID
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Take the listening sockets over from this pool, which then drains and ends
    #[arg(long, value_name = "PID")]
    pub(crate) take_over: Option<u32>,
}

/// `[NAME=][N*]COMMAND`.
fn worker(text: &str) -> Result<WorkerConfig, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if is_name(name) => (Some(name.to_owned()), rest),
        _ => (None, text),
    };
    let (count, command) = match rest.split_once('*') {
        Some((count, command)) if count.trim().parse::<u32>().is_ok() => {
            (count.trim().parse().unwrap_or(0), command)
        }
        _ => (1, rest),
    };
    WorkerConfig::new(name, count, command)
}
