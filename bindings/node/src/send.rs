//! Sending, at once or for a bounded time.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use napi::Either;
use napi_derive::napi;
use sendfd_core::{Path, Paths, Port, SendOptions, TargetOptions, Wait, WaitFor};

use crate::Failure;
use crate::sys::borrow;

/// One descriptor or several.
type Fds = Either<i32, Vec<i32>>;

/// Sends `fds` to process `pid` at `sig`. Nothing is answered on success.
#[napi]
#[allow(clippy::too_many_arguments)]
pub fn send(
    pid: i32,
    sig: i32,
    #[napi(ts_arg_type = "number | readonly number[]")] fds: Fds,
    timeout: f64,
    tag_low: u32,
    tag_high: u32,
    data: Option<&[u8]>,
    paths: u32,
    for_room: bool,
) -> Option<Failure> {
    let options = options(timeout, tag_low, tag_high, data, paths, for_room);
    with_borrowed(&fds, |fds| {
        sendfd_core::send_with(process(pid), Port::from_signal(sig)?, fds, &options)
    })
}

/// Opens process `pid` at `sig` for sending again and again.
#[napi]
pub fn open_target(
    pid: i32,
    sig: i32,
    paths: u32,
    timeout: f64,
    for_room: bool,
) -> Either<NativeTarget, Failure> {
    let options = TargetOptions::new()
        .paths(Paths::from_bits(paths).unwrap_or_default())
        .wait(wait(timeout))
        .wait_for(wait_for(for_room));
    let open = Port::from_signal(sig)
        .and_then(|port| sendfd_core::Target::open_with(process(pid), port, &options));
    match open {
        Ok(target) => Either::A(NativeTarget {
            target: Some(target),
        }),
        Err(error) => Either::B(error.into()),
    }
}

/// An opened target.
#[napi]
pub struct NativeTarget {
    target: Option<sendfd_core::Target>,
}

#[napi]
impl NativeTarget {
    /// As [`send`]. `lib/` does not call it on a closed target.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &self,
        #[napi(ts_arg_type = "number | readonly number[]")] fds: Fds,
        timeout: f64,
        tag_low: u32,
        tag_high: u32,
        data: Option<&[u8]>,
        paths: u32,
        for_room: bool,
    ) -> Option<Failure> {
        let target = self.target.as_ref()?;
        let options = options(timeout, tag_low, tag_high, data, paths, for_room);
        with_borrowed(&fds, |fds| target.send(fds, &options))
    }

    /// The path that it uses.
    #[napi]
    pub fn path(&self) -> Option<&'static str> {
        self.target.as_ref().map(|target| target.path().as_str())
    }

    /// How many bytes wait in its queue.
    #[napi]
    pub fn queued(&self) -> Either<f64, Failure> {
        match self.target.as_ref().map(sendfd_core::Target::queued) {
            None => Either::A(0.0),
            Some(Ok(bytes)) => Either::A(bytes as f64),
            Some(Err(error)) => Either::B(error.into()),
        }
    }

    /// Closes it.
    #[napi]
    pub fn close(&mut self) {
        self.target = None;
    }
}

/// The bit of each path, by name.
#[napi(object, object_from_js = false)]
pub struct PathBits {
    /// sendfd(2)
    pub syscall: u32,
    /// pidfd_getfd(2)
    pub pidfd: u32,
    /// The abstract address
    pub name: u32,
}

/// The bit of each path, by name.
#[napi]
#[must_use]
pub fn path_bits() -> PathBits {
    PathBits {
        syscall: Path::Syscall as u32,
        pidfd: Path::Pidfd as u32,
        name: Path::Name as u32,
    }
}

fn options(
    timeout: f64,
    tag_low: u32,
    tag_high: u32,
    data: Option<&[u8]>,
    paths: u32,
    for_room: bool,
) -> SendOptions<'_> {
    SendOptions::new()
        .paths(Paths::from_bits(paths).unwrap_or_default())
        .wait(wait(timeout))
        .wait_for(wait_for(for_room))
        .tag(u64::from(tag_high) << 32 | u64::from(tag_low))
        .data(data.unwrap_or_default())
}

/// A pid. What is none in JavaScript is 0, which is none in the core.
pub(crate) fn process(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

fn wait_for(room: bool) -> WaitFor {
    if room {
        WaitFor::Room
    } else {
        WaitFor::Listening
    }
}

/// Milliseconds, with their fraction; what no clock can count to is no limit.
fn wait(timeout: f64) -> Wait {
    if timeout == 0.0 {
        return Wait::Never;
    }
    Duration::try_from_secs_f64(timeout / 1000.0).map_or(Wait::Forever, Wait::For)
}

fn with_borrowed(
    fds: &Fds,
    send: impl FnOnce(&[BorrowedFd<'_>]) -> sendfd_core::Result<()>,
) -> Option<Failure> {
    let result = match fds {
        Either::A(fd) => send(&[borrow(*fd)]),
        Either::B(fds) => send(&fds.iter().map(|fd| borrow(*fd)).collect::<Vec<_>>()),
    };
    result.err().map(Failure::from)
}
