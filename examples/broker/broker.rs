//! A broker, in Rust: a process that has files hands them to those who ask for them.
//!
//! ```text
//! broker serve SIG FILE...    hands out FILE number N, from 0, opened for reading
//! broker ask PID SIG N        asks that process, and copies the file to standard output
//! ```
//!
//! A request is a message with the tag N and one descriptor: an end of a socket pair. The answer goes back
//! over that pair. It is not sent to the pid that is in the request: that says who asked, but by the time of
//! the answer the pid may be another process's, which would then get the file. The pair leads to whoever
//! holds its other end, and sending over it fails when nobody does.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sendfd_core::{Port, Receiver, SendOptions, Wait, send_with};

type Failure = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", sig, ref files @ ..] if !files.is_empty() => serve(port(sig)?, files)?,
        ["ask", pid, sig, nth] => ask(pid.parse()?, port(sig)?, nth.parse()?)?,
        _ => {
            eprintln!("usage: broker serve SIG FILE... | broker ask PID SIG N");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn port(sig: &str) -> Result<Port, Failure> {
    Ok(Port::from_signal(sig.parse()?)?)
}

fn serve(port: Port, files: &[&str]) -> Result<(), Failure> {
    let receiver = Receiver::open(port)?;
    loop {
        let message = receiver.recv(Wait::Forever)?;
        let pid = message.sender.pid;
        let answered = match &message.fds[..] {
            [asker] => answer(asker, files, message.tag),
            _ => Err(Errno::INVAL.into()),
        };
        match answered {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                eprintln!("broker: process {pid} is gone, and gets no answer");
            }
            Err(_) => eprintln!("broker: process {pid} sent what is no request"),
        }
    }
}

/// Answers over `asker`: a byte and the file, or the byte alone. Does not wait: an answer fits into the socket
/// of who has had none yet.
fn answer(asker: &OwnedFd, files: &[&str], nth: u64) -> io::Result<()> {
    let file = usize::try_from(nth).ok().and_then(|nth| files.get(nth));
    let file = file.and_then(|path| File::open(path).ok());
    let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let byte = if fds.is_empty() { b"-" } else { b"+" };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(asker, &[IoSlice::new(byte)], &mut control, flags)?;
    Ok(())
}

fn ask(pid: u32, port: Port, nth: u64) -> Result<(), Failure> {
    let (near, far) = UnixStream::pair()?;
    let options = SendOptions::new().tag(nth).wait(Wait::For(PATIENCE));
    send_with(pid, port, &[far.as_fd()], &options)?;
    // So that the broker's is the only one, and its exit is seen.
    drop(far);
    eprintln!("asked process {pid}");
    let mut file = answer_from(&near)?.ok_or("there is no such file to be had")?;
    io::copy(&mut file, &mut io::stdout())?;
    Ok(())
}

/// The file that is the answer.
fn answer_from(broker: &UnixStream) -> io::Result<Option<File>> {
    broker.set_read_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(broker, into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(rights.next().map(File::from))
}
