//! The sending end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use rustix::io::fcntl_dupfd_cloexec;
use sendfd_core::{Cause, Paths, Port, Result, SendOptions, TargetOptions, Wait, WaitFor};

use crate::arguments::{Data, Passengers, Pid, Until, Wish};
use crate::error::{errno_error, os_error};
use crate::wait::{blocks, interruptible, limit};

/// Whether waiting can help.
fn may_pass(cause: Cause, wait_for: WaitFor) -> bool {
    match cause {
        Cause::NotListening | Cause::ListensNearby { .. } | Cause::AddressTaken { .. } => {
            wait_for == WaitFor::Listening
        }
        Cause::QueueFull | Cause::InboxLost | Cause::TooManyInFlight | Cause::Interrupted => true,
        _ => false,
    }
}

/// Tries once, without waiting. If that fails and waiting may help, waits, with duplicates: while the
/// interpreter runs other threads and signal handlers, the numbers may come to mean something else.
///
/// The first try is made attached to the interpreter, so that nothing of that kind happens before.
fn send_waiting(
    py: Python<'_>,
    (wait, wait_for): (Wait, WaitFor),
    fds: &[BorrowedFd<'_>],
    send: impl Fn(&[BorrowedFd<'_>], Wait) -> Result<()> + Send + Sync,
) -> PyResult<()> {
    match send(fds, Wait::Never) {
        Err(error) if wait != Wait::Never && may_pass(error.cause(), wait_for) => {}
        result => return result.map_err(os_error),
    }
    let held = duplicates(fds)?;
    interruptible(py, wait, |wait| send(&borrow_all(&held), wait))
}

/// Duplicates, which keep the open files whatever becomes of the numbers.
fn duplicates(fds: &[BorrowedFd<'_>]) -> PyResult<Vec<OwnedFd>> {
    fds.iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, 0))
        .collect::<std::result::Result<_, _>>()
        .map_err(|errno| errno_error(errno, "cannot hold a descriptor while waiting to send it"))
}

fn borrow_all(held: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    held.iter().map(AsFd::as_fd).collect()
}

/// Send duplicates of descriptors to process pid, which listens on sig, in one message.
///
/// pid is an int, or a process object with a pid: subprocess.Popen, multiprocessing.Process, ... fd
/// is a descriptor, an object with fileno(), or a list of up to MAX_FDS such things. They are only
/// borrowed: once this returns, the kernel holds duplicates for the target, close-on-exec there. data
/// is up to MAX_DATA bytes (1 MiB), tag a number below 2**64: both are for the receiver. Above 4096 bytes
/// the data takes the place of one descriptor.
///
/// timeout is how long to wait, in seconds, for the target to start listening and for room in its queue:
/// 0 does not block, None waits for ever. With wait_for='room' it does not wait for a target that does not
/// listen (by default 'listening': for both). What is sent is what fd meant when this was called. A wait
/// can be interrupted by signals, and goes on unless their handlers raise. In an event loop, use
/// asend().
///
/// paths narrows the ways that may be taken: 'pidfd,name' or a list of 'syscall', 'pidfd', 'name'.
/// If none of these leads to the target, no other is tried.
///
/// The target is kept open in a small cache of this process. For hot loops, see Target. Threads may
/// call this at the same time. For the errors, see the module; on each, nothing was sent. TypeError
/// is raised for what would lose bytes: an SSLSocket, a file that has read ahead or has not flushed.
#[pyfunction]
#[pyo3(
    signature = (pid, sig, fd, *, data=Data::EMPTY, tag=0, timeout=Some(0.0), wait_for=Until::BOTH, paths=None),
    text_signature = "(pid, sig, fd, *, data=b'', tag=0, timeout=0, wait_for='listening', paths=None)"
)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn send(
    py: Python<'_>,
    pid: Pid,
    sig: i32,
    fd: Passengers<'_>,
    data: Data<'_>,
    tag: u64,
    timeout: Option<f64>,
    wait_for: Until,
    paths: Option<Wish>,
) -> PyResult<()> {
    let wait = limit(timeout)?;
    blocks(py, wait, "sendfd.send")?;
    let (pid, data) = (pid.number(), data.as_bytes());
    let paths = paths.map_or(Paths::empty(), |wish| wish.0);
    fd.lend(|fds| {
        send_waiting(py, (wait, wait_for.0), fds, |fds, wait| {
            let options = SendOptions::new()
                .paths(paths)
                .wait(wait)
                .wait_for(wait_for.0)
                .tag(tag)
                .data(data);
            sendfd_core::send_with(pid, Port::from_signal(sig)?, fds, &options)
        })
    })
}

/// Send like send(), in a coroutine of asyncio, trio or anyio: waiting does not stop the event loop.
///
/// What fd means is settled by the call, not when the coroutine is awaited: the caller may close its
/// own at once. The coroutine waits as long as timeout allows, None (the default) without limit.
/// Cancelled while it waits, it has sent nothing; once it returns, the message was sent. However it
/// ends, its duplicates are closed then; those of a task that is cancelled before it has started are
/// closed with the task.
///
/// Raises what send() raises; TypeError, ValueError and OSError (EBADF, EMFILE) about the arguments
/// already when it is called.
#[pyfunction]
#[pyo3(
    signature = (pid, sig, fd, *, data=Data::EMPTY, tag=0, timeout=None, wait_for=Until::BOTH, paths=None),
    text_signature = "(pid, sig, fd, *, data=b'', tag=0, timeout=None, wait_for='listening', paths=None)"
)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn asend<'py>(
    py: Python<'py>,
    pid: Pid,
    sig: i32,
    fd: Passengers<'_>,
    data: Data<'_>,
    tag: u64,
    timeout: Option<f64>,
    wait_for: Until,
    paths: Option<Wish>,
) -> PyResult<Bound<'py, PyAny>> {
    let to = To::Address {
        pid: pid.number(),
        sig,
        paths: paths.map_or(Paths::empty(), |wish| wish.0),
    };
    Outbound::deliver(py, to, Held::new(&fd, &data, tag)?, timeout, wait_for)
}

/// Where a message goes.
enum To {
    Address { pid: u32, sig: i32, paths: Paths },
    Target(Arc<sendfd_core::Target>),
}

/// A message that waits to be sent: duplicates of the descriptors, and what goes with them.
#[pyclass(module = "sendfd._sendfd", frozen)]
pub(crate) struct Held {
    /// Empty once they were released. Never locked while detached from the interpreter.
    fds: Mutex<Vec<OwnedFd>>,
    data: Vec<u8>,
    tag: u64,
}

/// Hold what is to be sent, whatever becomes of the numbers.
#[pyfunction]
pub(crate) fn hold(fd: Passengers<'_>, data: Data<'_>, tag: u64) -> PyResult<Held> {
    Held::new(&fd, &data, tag)
}

impl Held {
    fn new(fd: &Passengers<'_>, data: &Data<'_>, tag: u64) -> PyResult<Self> {
        Ok(Held {
            fds: Mutex::new(fd.lend(duplicates)?),
            data: data.as_bytes().to_vec(),
            tag,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, to: &To, wait: Wait, wait_for: WaitFor) -> Result<()> {
        let held = self.lock();
        let fds = borrow_all(&held);
        let options = SendOptions::new()
            .wait(wait)
            .wait_for(wait_for)
            .tag(self.tag)
            .data(&self.data);
        match to {
            To::Address { pid, sig, paths } => {
                let port = Port::from_signal(*sig)?;
                sendfd_core::send_with(*pid, port, &fds, &options.paths(*paths))
            }
            To::Target(target) => target.send(&fds, &options),
        }
    }
}

#[pymethods]
impl Held {
    /// Send it, without waiting. Raises what Target.send() raises; it stays as it is.
    fn send_to(&self, target: &Target) -> PyResult<()> {
        let to = To::Target(target.get()?);
        self.send(&to, Wait::Never, WaitFor::Room).map_err(os_error)
    }

    /// Close the duplicates, now that nothing is sent any more: the frame that has this lives as long as
    /// the traceback of an exception that came out of it.
    fn release(&self) {
        let held = std::mem::take(&mut *self.lock());
        drop(held);
    }
}

/// A message on its way to where it goes.
#[pyclass(module = "sendfd._sendfd", frozen)]
pub(crate) struct Outbound {
    to: To,
    /// Closed with this, too: the coroutine that has it may never be started.
    held: Held,
    wait_for: WaitFor,
}

impl Outbound {
    /// The coroutine that sends it.
    fn deliver<'py>(
        py: Python<'py>,
        to: To,
        held: Held,
        timeout: Option<f64>,
        Until(wait_for): Until,
    ) -> PyResult<Bound<'py, PyAny>> {
        static DELIVER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        limit(timeout)?;
        let deliver = DELIVER.import(py, "sendfd._loops", "deliver")?;
        let outbound = Outbound { to, held, wait_for };
        deliver.call1((outbound, timeout))
    }

    fn send(&self, wait: Wait) -> Result<()> {
        self.held.send(&self.to, wait, self.wait_for)
    }
}

#[pymethods]
impl Outbound {
    /// Try to send, without waiting. False if it may succeed later, True once it is sent; raises OSError
    /// otherwise.
    fn attempt(&self) -> PyResult<bool> {
        match self.send(Wait::Never) {
            Ok(()) => Ok(true),
            Err(error) if may_pass(error.cause(), self.wait_for) => Ok(false),
            Err(error) => Err(os_error(error)),
        }
    }

    /// Try a last time, and raise what says that the time is over: TimeoutError if it was `waited` for,
    /// BlockingIOError and others if not.
    fn last_attempt(&self, waited: bool) -> PyResult<()> {
        let wait = if waited {
            Wait::For(std::time::Duration::from_nanos(1))
        } else {
            Wait::Never
        };
        self.send(wait).map_err(os_error)
    }

    /// Close the duplicates, whatever became of the message.
    fn release(&self) {
        self.held.release();
    }
}

/// A process, at one of its signals, opened for sending again and again.
///
/// It stands for the process that had the pid when it was opened: when that has exited, sending raises
/// ProcessLookupError, also when another process has the pid by then. It owns one descriptor, two at
/// most, and is a context manager that closes it. Threads may share it; a forked child may go on
/// using its copy.
///
/// pid, sig, paths and timeout are those of send(); opening raises the same errors, as far as they
/// are about the target and the path.
#[pyclass(module = "sendfd", frozen)]
pub(crate) struct Target {
    /// The pid that it was opened by.
    #[pyo3(get)]
    pid: u32,
    /// The signal that it was opened by.
    #[pyo3(get)]
    sig: i32,
    /// The path that it keeps to.
    path: &'static str,
    /// `None` once it was closed. Never locked while detached from the interpreter.
    open: Mutex<Option<Arc<sendfd_core::Target>>>,
}

impl Target {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<sendfd_core::Target>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> PyResult<Arc<sendfd_core::Target>> {
        self.lock().clone().ok_or_else(|| {
            let text = format!(
                "cannot send to process {} at signal {}: the target is closed",
                self.pid, self.sig
            );
            PyOSError::new_err((libc::EBADF, text))
        })
    }
}

#[pymethods]
impl Target {
    #[new]
    #[pyo3(
        signature = (pid, sig, *, paths=None, timeout=Some(0.0), wait_for=Until::BOTH),
        text_signature = "(pid, sig, *, paths=None, timeout=0, wait_for='listening')"
    )]
    fn new(
        py: Python<'_>,
        pid: Pid,
        sig: i32,
        paths: Option<Wish>,
        timeout: Option<f64>,
        wait_for: Until,
    ) -> PyResult<Self> {
        let pid = pid.number();
        let paths = paths.map_or(Paths::empty(), |wish| wish.0);
        let wait = limit(timeout)?;
        blocks(py, wait, "sendfd.Target")?;
        let open = interruptible(py, wait, |wait| {
            let options = TargetOptions::new()
                .paths(paths)
                .wait(wait)
                .wait_for(wait_for.0);
            sendfd_core::Target::open_with(pid, Port::from_signal(sig)?, &options)
        })?;
        Ok(Target {
            pid,
            sig,
            path: open.path().as_str(),
            open: Mutex::new(Some(Arc::new(open))),
        })
    }

    /// The path that it keeps to: 'syscall', 'pidfd' or 'name'.
    #[getter]
    fn path(&self) -> &'static str {
        self.path
    }

    /// Send duplicates of descriptors in one message: one system call.
    ///
    /// fd, data, tag and timeout are those of sendfd.send(), and so are the errors, with OSError (EBADF)
    /// once the target is closed.
    #[pyo3(
        signature = (fd, *, data=Data::EMPTY, tag=0, timeout=Some(0.0), wait_for=Until::BOTH),
        text_signature = "($self, fd, *, data=b'', tag=0, timeout=0, wait_for='listening')"
    )]
    #[allow(clippy::too_many_arguments)]
    fn send(
        &self,
        py: Python<'_>,
        fd: Passengers<'_>,
        data: Data<'_>,
        tag: u64,
        timeout: Option<f64>,
        wait_for: Until,
    ) -> PyResult<()> {
        let wait = limit(timeout)?;
        blocks(py, wait, "sendfd.Target.send")?;
        let data = data.as_bytes();
        let target = self.get()?;
        fd.lend(|fds| {
            send_waiting(py, (wait, wait_for.0), fds, |fds, wait| {
                let options = SendOptions::new()
                    .wait(wait)
                    .wait_for(wait_for.0)
                    .tag(tag)
                    .data(data);
                target.send(fds, &options)
            })
        })
    }

    /// Send like send(), in a coroutine: as sendfd.asend(), to this target.
    #[pyo3(
        signature = (fd, *, data=Data::EMPTY, tag=0, timeout=None, wait_for=Until::BOTH),
        text_signature = "($self, fd, *, data=b'', tag=0, timeout=None, wait_for='listening')"
    )]
    #[allow(clippy::too_many_arguments)]
    fn asend<'py>(
        &self,
        py: Python<'py>,
        fd: Passengers<'_>,
        data: Data<'_>,
        tag: u64,
        timeout: Option<f64>,
        wait_for: Until,
    ) -> PyResult<Bound<'py, PyAny>> {
        let to = To::Target(self.get()?);
        Outbound::deliver(py, to, Held::new(&fd, &data, tag)?, timeout, wait_for)
    }

    /// How many bytes wait in the target's queue, by the kernel's count, for choosing the one that is least
    /// busy. On the pidfd path it is what all senders sent, on the name path what this target did.
    ///
    /// Raises OSError: EBADF once the target is closed, EOPNOTSUPP on the syscall path, which has no
    /// queue of its own.
    fn queued(&self) -> PyResult<usize> {
        self.get()?.queued().map_err(os_error)
    }

    /// Whether the target was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.lock().is_none()
    }

    /// Close the target. What was sent arrives all the same.
    fn close(&self) {
        let open = self.lock().take();
        drop(open);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    fn __repr__(&self) -> String {
        let Target { pid, sig, path, .. } = self;
        let closed = if self.closed() { " closed" } else { "" };
        format!("<sendfd.Target pid={pid} sig={sig} path='{path}'{closed}>")
    }
}
