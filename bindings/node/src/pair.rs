//! A pair of connected sockets, over which descriptors are passed the old way: for an answer, which
//! goes to who asked and not to a pid.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use napi::Either;
use napi_derive::napi;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sendfd_core::MAX_FDS;

use crate::Failure;
use crate::descriptors::Descriptors;
use crate::sys::borrow;

/// The longest line.
const LINE: usize = 4096;

/// What came over a pair.
#[napi(object, object_from_js = false)]
pub struct Arrival {
    /// Empty at the end of the stream.
    pub text: String,
    /// `Descriptors` has them.
    pub fds: Vec<i32>,
}

/// The two ends of a pair, which are `descriptors`'.
#[napi]
pub fn pair(descriptors: &Descriptors) -> Either<Vec<i32>, Failure> {
    match UnixStream::pair() {
        Ok((one, other)) => Either::A(vec![
            descriptors.take(one.into()),
            descriptors.take(other.into()),
        ]),
        Err(error) => Either::B(failure("cannot make a pair of sockets", &error)),
    }
}

/// Writes `text` with `fds`, without waiting: a line fits into the socket.
#[napi]
pub fn send_over(socket: i32, text: String, fds: Vec<i32>) -> Option<Failure> {
    let fds: Vec<_> = fds.iter().map(|fd| borrow(*fd)).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let text = [IoSlice::new(text.as_bytes())];
    match sendmsg(borrow(socket), &text, &mut control, flags) {
        Ok(_) => None,
        Err(error) => Some(failure("cannot pass descriptors on", &error.into())),
    }
}

/// Reads what is there with its descriptors, which are `descriptors`', without waiting.
#[napi]
pub fn receive_over(socket: i32, descriptors: &Descriptors) -> Either<Arrival, Failure> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; LINE];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let into = &mut [IoSliceMut::new(&mut text)];
    let length = match recvmsg(borrow(socket), into, &mut control, flags) {
        Ok(received) => received.bytes,
        Err(error) => return Either::B(failure("cannot take descriptors over", &error.into())),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            fds.extend(arrived.map(|fd| descriptors.take(fd)));
        }
    }
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    Either::A(Arrival { text, fds })
}

fn failure(attempt: &str, error: &std::io::Error) -> Failure {
    Failure {
        errno: -error.raw_os_error().unwrap_or(libc::EIO),
        message: format!("{attempt}: {error}"),
        hint: None,
    }
}
