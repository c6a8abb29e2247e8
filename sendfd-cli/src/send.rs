//! `sendfd send`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use clap::ArgMatches;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use sendfd_core::{MAX_DATA, Port, SendOptions, Target, TargetOptions, send_with};

use crate::args::SendArgs;
use crate::exit::{Code, Failure, Result};
use crate::paint::DIM;
use crate::sys;

pub(crate) fn run(args: &SendArgs, order: &ArgMatches) -> Result<()> {
    let fds = collect(args, order)?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let data = args.data.as_deref().map_or(Ok(Vec::new()), data)?;
    let pid = args.target.pid()?;
    let wait = args.timeout.0;

    let target = Target::open_with(pid, args.port, &TargetOptions::new().wait(wait))?;
    let options = SendOptions::new().wait(wait).tag(args.tag).data(&data);
    target.send(&borrowed, &options)?;
    if args.verbose {
        let (count, port, path) = (fds.len(), args.port, target.path());
        let mut stderr = anstream::stderr();
        writeln!(
            stderr,
            "{DIM}sent {count} to process {pid} at port {port}, by {path}{DIM:#}"
        )?;
    }
    Ok(())
}

/// One descriptor with some words, to a target that listens.
pub(crate) fn one(pid: u32, port: Port, fd: BorrowedFd<'_>, data: &[u8]) -> Result<()> {
    let options = SendOptions::new().data(data);
    Ok(send_with(pid, port, &[fd], &options)?)
}

/// What is to be sent, in the order of the command line.
fn collect(args: &SendArgs, order: &ArgMatches) -> Result<Vec<OwnedFd>> {
    let mut fds: Vec<(usize, OwnedFd)> = Vec::new();
    let place = |name: &str, nth: usize| {
        let mut indices = order.indices_of(name).into_iter().flatten();
        indices.nth(nth).unwrap_or(0)
    };
    for (nth, number) in args.fd.iter().enumerate() {
        let fd = sys::duplicate(*number).map_err(|error| {
            Failure::usage(format!(
                "--fd {number}: {error} (open it in the shell: {number}<FILE after the command)"
            ))
        })?;
        fds.push((place("fd", nth), fd));
    }
    for (nth, path) in args.open.iter().enumerate() {
        let file = File::open(path)
            .map_err(|error| Failure::system(format!("cannot open {}: {error}", path.display())))?;
        fds.push((place("open", nth), file.into()));
    }
    for (nth, address) in args.listen.iter().enumerate() {
        fds.push((place("listen", nth), address.bind()?));
    }
    for (nth, (pid, number)) in args.from.iter().enumerate() {
        fds.push((place("from", nth), from(*pid, *number)?));
    }
    fds.sort_by_key(|(place, _)| *place);
    Ok(fds.into_iter().map(|(_, fd)| fd).collect())
}

/// A duplicate of what another process has open at `number`.
fn from(pid: u32, number: i32) -> Result<OwnedFd> {
    let Some(process) = Pid::from_raw(pid as i32) else {
        return Err(Failure::usage("a pid is positive"));
    };
    let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|errno| {
        Failure::new(
            Code::NoProcess,
            format!("cannot open process {pid}: {errno}"),
        )
    })?;
    pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).map_err(|errno| {
        let (code, hint) = match errno {
            rustix::io::Errno::PERM => (
                Code::Refused,
                " (it needs ptrace rights over the process: be root, or its parent; `sendfd doctor` says what forbids it)",
            ),
            rustix::io::Errno::BADF => (Code::Usage, " (see /proc/PID/fd for what it has open)"),
            _ => (Code::System, ""),
        };
        Failure::new(
            code,
            format!("cannot take descriptor {number} of process {pid}: {errno}{hint}"),
        )
    })
}

/// The text itself, or what a file holds.
fn data(text: &str) -> Result<Vec<u8>> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(text.as_bytes().to_owned());
    };
    let mut bytes = Vec::new();
    // No more than it takes to know that it is too much.
    let limit = MAX_DATA as u64 + 1;
    let read = if path == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(Path::new(path)).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::system(format!("cannot read --data {text}: {error}")))?;
    Ok(bytes)
}
