//! `sendfd recv`.

use std::io::Write as _;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::ArgMatches;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use sendfd_core::{Cause, Message, Receiver, ReceiverOptions, Wait};

use crate::args::RecvArgs;
use crate::exit::{Code, Failure, Result};
use crate::{activation, arrival, sys};

/// What the environment of COMMAND carries of a message's data, at most.
const DATA_IN_ENVIRONMENT: usize = 4096;

pub(crate) fn run(args: RecvArgs, order: &ArgMatches) -> Result<()> {
    let options = ReceiverOptions::new().uids(&args.uid);
    let receiver = Receiver::open_with(args.port, &options)?;
    let mut messages = Vec::new();
    for _ in 0..args.count {
        let message = next(&receiver, args.timeout.0)?;
        if args.command.is_empty() {
            let line = if args.json {
                arrival::json(&message)
            } else {
                arrival::words(&message)
            };
            writeln!(anstream::stdout(), "{line}")?;
        } else {
            messages.push(message);
        }
    }
    // From here on nobody may own a number that COMMAND's descriptors are put at.
    drop(receiver);
    match args.command.split_first() {
        None => Ok(()),
        Some((program, words)) => {
            let mut command = Command::new(program);
            command.args(words);
            Err(execute(command, messages, &args, order))
        }
    }
}

/// Waits anew when a signal handler ran: none of ours asks it to end.
pub(crate) fn next(receiver: &Receiver, wait: Wait) -> Result<Message> {
    loop {
        match receiver.recv(wait) {
            Err(error) if error.cause() == Cause::Interrupted => {}
            result => return Ok(result?),
        }
    }
}

/// Becomes `command`; comes back only if that fails.
fn execute(
    mut command: Command,
    messages: Vec<Message>,
    args: &RecvArgs,
    order: &ArgMatches,
) -> Failure {
    if let Some(first) = messages.first() {
        command
            .env("SENDFD_TAG", first.tag.to_string())
            .env("SENDFD_SENDER_PID", first.sender.pid.to_string())
            .env("SENDFD_SENDER_UID", first.sender.uid.to_string())
            .env_remove("SENDFD_DATA");
        let text = std::str::from_utf8(&first.data).ok();
        let fits = |text: &&str| text.len() <= DATA_IN_ENVIRONMENT && !text.contains('\0');
        if let Some(text) = text.filter(fits) {
            command.env("SENDFD_DATA", text);
        }
    }
    let fds: Vec<OwnedFd> = messages
        .into_iter()
        .flat_map(|message| message.fds)
        .collect();
    let named = numbers(args, order);
    let numbers: Vec<RawFd> = if named.is_empty() {
        let mut names = args.name.clone();
        names.resize(fds.len(), "sendfd".to_owned());
        command.envs(activation::variables(&names));
        (activation::FIRST..).take(fds.len()).collect()
    } else if named.len() == fds.len() {
        named
    } else {
        return Failure::system(format!(
            "{} descriptors came, but {} numbers were named for them",
            fds.len(),
            named.len()
        ));
    };
    if args.blocking {
        for fd in &fds {
            let _ = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags - OFlags::NONBLOCK));
        }
    }
    if let Err(error) = sys::place(fds, &numbers) {
        return Failure::system(format!("cannot put a descriptor at its number: {error}"));
    }
    let error = command.exec();
    let program = Path::new(command.get_program()).display();
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(Code::NotFound, format!("{program}: {error}")),
        _ => Failure::new(
            Code::CannotExecute,
            format!("cannot execute {program}: {error}"),
        ),
    }
}

/// The numbers that were named, in the order of the command line.
fn numbers(args: &RecvArgs, order: &ArgMatches) -> Vec<RawFd> {
    let mut numbers: Vec<(usize, RawFd)> = Vec::new();
    let indices = order.indices_of("fd").into_iter().flatten();
    numbers.extend(indices.zip(args.fd.iter().copied()));
    for (name, given, number) in [
        ("stdin", args.stdin, 0),
        ("stdout", args.stdout, 1),
        ("stderr", args.stderr, 2),
    ] {
        if given {
            numbers.push((order.index_of(name).unwrap_or(0), number));
        }
    }
    numbers.sort_unstable();
    numbers.into_iter().map(|(_, number)| number).collect()
}
