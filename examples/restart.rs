//! A server that replaces itself without dropping a connection: the old process hands its listening
//! socket to the new one, by pid, and goes on with the connections that it has.
//!
//! ```text
//! restart            serves on a port of 127.0.0.1; SIGHUP replaces the process, SIGTERM ends it
//! ```
//!
//! The descriptor is the same open socket all the time, so that no connection is ever refused: those
//! that arrive during the change wait in its queue.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sendfd_core::{Port, Receiver, SendOptions, Wait, send_with};
use signal_hook::consts::{SIGHUP, SIGTERM};

type Failure = Box<dyn std::error::Error>;

const BOOT: Wait = Wait::For(Duration::from_secs(10));

fn main() -> Result<(), Failure> {
    let (replace, stop) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    signal_hook::flag::register(SIGHUP, Arc::clone(&replace))?;
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;

    let listener = match std::env::args().nth(1).as_deref() {
        None => TcpListener::bind("127.0.0.1:0")?,
        Some("--successor") => inherit()?,
        Some(other) => return Err(format!("unknown argument {other}").into()),
    };
    listener.set_nonblocking(true)?;
    println!(
        "process {} serves http://{}/",
        std::process::id(),
        listener.local_addr()?
    );

    while !stop.load(Ordering::Relaxed) {
        if replace.swap(false, Ordering::Relaxed) {
            match hand_over(&listener) {
                Ok(()) => return Ok(()),
                // The old process has lost nothing and goes on.
                Err(error) => eprintln!("not replaced: {error}"),
            }
        }
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let _ = poll(&mut fds, Some(&pause));
        while let Ok((connection, _)) = listener.accept() {
            let _ = answer(connection);
        }
    }
    Ok(())
}

/// In the new process: the listening socket of the old one, which must be its parent.
fn inherit() -> Result<TcpListener, Failure> {
    // Asked before anything can arrive: having sent, the old process ends.
    let parent = std::os::unix::process::parent_id();
    let receiver = Receiver::open(Port::new(0)?)?;
    loop {
        let message = receiver.recv(BOOT)?;
        if message.sender.pid == parent {
            let fd = message.fds.into_iter().next();
            return Ok(TcpListener::from(
                fd.ok_or("a message without a descriptor")?,
            ));
        }
    }
}

/// In the old process: starts the new one and sends it the socket. Once that has succeeded, the
/// kernel holds the socket for the new process, and the old one may end.
fn hand_over(listener: &TcpListener) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let mut successor = Command::new(program).arg("--successor").spawn()?;
    let options = SendOptions::new().wait(BOOT);
    send_with(successor.id(), Port::new(0)?, &[listener.as_fd()], &options).map_err(|error| {
        let _ = successor.kill();
        error.into()
    })
}

fn answer(connection: TcpStream) -> std::io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("process {}\n", std::process::id());
    let length = body.len();
    write!(
        &connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
