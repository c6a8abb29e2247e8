//! The command line: help, completions and man pages are all made from what stands here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::address::Address;
use crate::pool::args::PoolArgs;
use crate::target::Who;
use crate::timeout::Timeout;
use sendfd_core::Port;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  64   the command line or the configuration is wrong
  68   no such process, or it has exited
  69   the process lives but does not listen there
  71   the kernel refuses something else, which the message names
  75   the timeout ran out, or the queue is full and no timeout was given
  77   refused: the target does not accept this user, or every path to it is forbidden
  126  COMMAND cannot be executed (recv)
  127  COMMAND was not found (recv)
`recv -- COMMAND` becomes COMMAND, so that from then on the code is COMMAND's own.

Environment:
  SENDFD_PATHS  the paths that may be used: a list of syscall, pidfd, name
  NO_COLOR      no colours";

/// Hand open descriptors to other processes, by pid
#[derive(Debug, Parser)]
#[command(name = "sendfd", version, about, after_help = EXIT_CODES, max_term_width = 100)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Send(SendArgs),
    Recv(RecvArgs),
    Doctor(DoctorArgs),
    List(ListArgs),
    Watch(WatchArgs),
    Pool(Box<PoolArgs>),
    Completions(CompletionsArgs),
    Manual(ManualArgs),
    /// Part of the pool
    #[command(hide = true)]
    Guard,
}

/// Send descriptors to a process that listens
///
/// All that is named goes in one message, in the order of the command line. Once this returns with 0, the
/// kernel holds duplicates for the target, whatever becomes of the sender.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true))]
pub(crate) struct SendArgs {
    /// A pid, unit:NAME (the main process of a unit of systemd), or file:PATH (a pid file)
    pub(crate) target: Who,
    /// The port: n from 0 to 29 (counted from SIGRTMAX), RTMIN+n or RTMAX-n
    pub(crate) port: Port,
    /// A descriptor of this process, as the shell opened it: `sendfd send … --fd 3 3<file`
    #[arg(long, value_name = "N", group = "source")]
    pub(crate) fd: Vec<i32>,
    /// A file, opened for reading
    #[arg(long, value_name = "FILE", group = "source")]
    pub(crate) open: Vec<PathBuf>,
    /// A new socket that listens: HOST:PORT, [IPV6]:PORT, :PORT, a path, or @NAME
    #[arg(long, value_name = "ADDR", group = "source")]
    pub(crate) listen: Vec<Address>,
    /// A descriptor of another process, the very same open file (needs the rights of a debugger over it)
    #[arg(long, value_name = "PID:FD", group = "source", value_parser = pid_and_fd)]
    pub(crate) from: Vec<(u32, i32)>,
    /// A number for the receiver
    #[arg(long, default_value_t = 0)]
    pub(crate) tag: u64,
    /// Bytes for the receiver, up to 1 MiB: the text itself, or @FILE, or @- for standard input
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// How long to wait for a target that boots and for room in its queue: 5, 250ms, 2m, forever
    #[arg(long, value_name = "TIME", default_value = "0")]
    pub(crate) timeout: Timeout,
    /// Say by which path it went
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

fn pid_and_fd(text: &str) -> Result<(u32, i32), String> {
    text.split_once(':')
        .and_then(|(pid, fd)| Some((pid.parse().ok()?, fd.parse().ok()?)))
        .filter(|(pid, fd)| *pid > 0 && i32::try_from(*pid).is_ok() && *fd >= 0)
        .ok_or_else(|| "write PID:FD, for example 1234:5".to_owned())
}

/// Receive descriptors, and run a program with them
///
/// Without COMMAND, says what arrived and closes it. With COMMAND, becomes COMMAND, which finds the
/// descriptors from number 3 on, with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES set as systemd does, or
/// at the numbers named here, in the order of the command line. COMMAND also gets SENDFD_TAG,
/// SENDFD_SENDER_PID, SENDFD_SENDER_UID and (where it is text of up to 4096 bytes) SENDFD_DATA, of the
/// first message.
#[derive(Debug, Args)]
pub(crate) struct RecvArgs {
    /// The port to listen on: n from 0 to 29 (counted from SIGRTMAX), RTMIN+n or RTMAX-n
    pub(crate) port: Port,
    /// Put the next descriptor at number N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..1_000_000), requires = "command")]
    pub(crate) fd: Vec<i32>,
    /// Put the next descriptor at 0
    #[arg(short = 'i', long, requires = "command")]
    pub(crate) stdin: bool,
    /// Put the next descriptor at 1
    #[arg(short = 'o', long, requires = "command")]
    pub(crate) stdout: bool,
    /// Put the next descriptor at 2
    #[arg(short = 'e', long, requires = "command")]
    pub(crate) stderr: bool,
    /// How many messages to receive before COMMAND runs
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// How long to wait for each message: 5, 250ms, 2m, forever
    #[arg(long, value_name = "TIME", default_value = "forever")]
    pub(crate) timeout: Timeout,
    /// Accept this user, too, beside one's own and root
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Vec<u32>,
    /// The names in LISTEN_FDNAMES, in order [default: sendfd for each]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// Take O_NONBLOCK off what was received, for programs that do not expect it
    #[arg(long)]
    pub(crate) blocking: bool,
    /// One line of JSON for each message
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// What to run
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// Say which paths lead to a process, why others do not, and what to change
///
/// Without TARGET, says what this machine, with its kernel and sandbox, offers at all. Sends nothing.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A pid, unit:NAME or file:PATH
    pub(crate) target: Option<Who>,
    /// The port [default: each that the target listens on]
    pub(crate) port: Option<Port>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show who listens on this machine
///
/// Finds what this user can see: by the abstract addresses of this network namespace, and in the
/// descriptor tables that may be read.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Listen on a port and show what arrives, until Ctrl-C
///
/// What arrives is closed at once.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The port: n from 0 to 29 (counted from SIGRTMAX), RTMIN+n or RTMAX-n
    pub(crate) port: Port,
    /// Accept this user, too, beside one's own and root
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Vec<u32>,
    /// One line of JSON for each message
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    pub(crate) shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Zsh,
}

/// Write the man pages of section 1 into a folder
#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    pub(crate) folder: PathBuf,
}
