//! A pool hands its listening sockets to its successor.
//!
//! The successor sends one end of a socket pair to the port of the pool itself, with the words below; over
//! the pair it gets the sockets, says `ready` when a worker of its own is, and the old one drains. Whoever
//! may signal the pool may ask; the pid of who asked is no address, the pair is.

use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sendfd_core::tokio::Receiver;
use sendfd_core::{MAX_FDS, Port};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::Pool;
use super::log::{note, trouble};
use crate::exit::{Failure, Result};

const WORDS: &[u8] = b"sendfd pool: take over 1";
const READY: &[u8] = b"ready\n";

/// How long a pool may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pool whose sockets were taken. It goes on until it is relieved, or finds that its successor is gone.
pub(crate) struct Predecessor {
    pid: u32,
    pair: UnixStream,
}

/// Asks process `pid` for its listening sockets.
pub(crate) async fn ask(pid: u32, port: Port) -> Result<(Vec<OwnedFd>, Predecessor)> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::system(format!(
            "cannot take over from process {pid}: {what}: {error}"
        ))
    };
    let (own, other) = UnixStream::pair().map_err(|error| failed("a socket pair", &error))?;
    crate::send::one(pid, port, other.as_fd(), WORDS)?;
    drop(other);
    own.set_read_timeout(Some(PATIENCE))
        .map_err(|error| failed("its answer", &error))?;
    let mut sockets = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let got = recvmsg(
        &own,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|errno| failed("it does not answer (is it a pool?)", &errno))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds);
        }
    }
    if got.bytes == 0 || sockets.is_empty() {
        return Err(failed(
            "it gave no sockets",
            &"is it a pool that is draining already?",
        ));
    }
    note(format!("process {pid} gave {} sockets", sockets.len()));
    Ok((sockets, Predecessor { pid, pair: own }))
}

impl Predecessor {
    /// Tells it that it can go, once somebody here can serve.
    pub(crate) async fn relieve(mut self, pool: Rc<Pool>) {
        while !pool.slots.iter().any(super::Slot::is_ready) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match self.pair.write_all(READY) {
            Ok(()) => note(format!("process {} is relieved", self.pid)),
            Err(_) => note(format!("process {} has gone already", self.pid)),
        }
    }
}

/// Answers whoever asks for the sockets. `relieved` is told when a successor serves.
pub(crate) fn offer(pool: &Rc<Pool>, relieved: Rc<Notify>) {
    let mut receiver = match Receiver::open(pool.port) {
        Ok(receiver) => receiver,
        Err(error) => {
            trouble(format!("no successor will be able to take over: {error}"));
            return;
        }
    };
    let pool = Rc::clone(pool);
    spawn_local(async move {
        while let Some(received) = receiver.next().await {
            let message = match received {
                Ok(message) => message,
                Err(error) => {
                    trouble(format!("a successor may have to wait: {error}"));
                    continue;
                }
            };
            let sender = message.sender.pid;
            let pair = message.fds.into_iter().next();
            let asks = message.data == WORDS;
            if let Some(pair) = pair.filter(|_| asks) {
                note(format!("process {sender} asks to take over"));
                spawn_local(answer(Rc::clone(&pool), pair, Rc::clone(&relieved)));
            }
        }
    });
}

async fn answer(pool: Rc<Pool>, pair: OwnedFd, relieved: Rc<Notify>) {
    let stream = UnixStream::from(pair);
    let sockets: Vec<BorrowedFd<'_>> = pool
        .listeners
        .iter()
        .map(|listener| listener.socket.as_fd())
        .take(MAX_FDS)
        .collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    if sendmsg(&stream, &[IoSlice::new(b"\n")], &mut control, flags).is_err() {
        return;
    }
    // Whatever was sent along may be no stream at all: then there is no successor.
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(mut stream) = tokio::net::UnixStream::from_std(stream) else {
        return;
    };
    let mut words = [0; READY.len()];
    match stream.read_exact(&mut words).await {
        Ok(_) if words == READY => {
            note("the successor serves");
            relieved.notify_one();
        }
        _ => note("the successor has gone before it served; this pool goes on"),
    }
}
