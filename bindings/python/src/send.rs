//! The sending end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sendfd_core::{Paths, SendOptions, Wait};

use crate::arguments::{Data, Passengers, Pid, Wish};
use crate::wait::{interruptible, seconds};

/// Sending does not wait unless it is told to.
fn wait_of(timeout: Option<f64>) -> PyResult<Wait> {
    timeout.map_or(Ok(Wait::Never), seconds)
}

/// Send duplicates of descriptors to process pid, which listens on sig, in one message.
///
/// pid is an int, or a process object with a pid: subprocess.Popen, multiprocessing.Process, ... fd
/// is a descriptor, an object with fileno(), or a list of up to MAX_FDS such things. They are only
/// borrowed: once this returns, the kernel holds duplicates for the target, close-on-exec there. data
/// is up to MAX_DATA bytes, tag a number below 2**64: both are for the receiver.
///
/// Without a timeout, this does not block. With one, in seconds, it waits so long at most for the
/// target to start listening and for room in its queue; math.inf is no limit. It can be interrupted
/// by signals, and goes on unless their handlers raise.
///
/// paths narrows the ways that may be taken: 'pidfd,name' or a list of 'syscall', 'pidfd', 'name'.
/// An explicit wish is never replaced by another path.
///
/// The target is kept open in a small cache of this process. For hot loops, see Target. Threads may
/// call this at the same time. For the errors, see the module; on each, nothing was sent.
#[pyfunction]
#[pyo3(
    signature = (pid, sig, fd, *, data=Data::EMPTY, tag=0, timeout=None, paths=None),
    text_signature = "(pid, sig, fd, *, data=b'', tag=0, timeout=None, paths=None)"
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
    paths: Option<Wish>,
) -> PyResult<()> {
    let wait = wait_of(timeout)?;
    let (Pid(pid), data) = (pid, data.as_bytes());
    let paths = paths.map_or(Paths::empty(), |wish| wish.0);
    fd.lend(|fds| {
        interruptible(py, wait, |wait| {
            let options = SendOptions {
                paths,
                wait,
                tag,
                data,
            };
            sendfd_core::send_with(pid, sig, fds, &options)
        })
    })
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
    pid: i32,
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
}

#[pymethods]
impl Target {
    #[new]
    #[pyo3(signature = (pid, sig, *, paths=None, timeout=None))]
    fn new(
        py: Python<'_>,
        pid: Pid,
        sig: i32,
        paths: Option<Wish>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let Pid(pid) = pid;
        let paths = paths.map_or(Paths::empty(), |wish| wish.0);
        let open = interruptible(py, wait_of(timeout)?, |wait| {
            sendfd_core::Target::open(pid, sig, paths, wait)
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
    /// once the target is closed. Without a timeout, this does not block.
    #[pyo3(
        signature = (fd, *, data=Data::EMPTY, tag=0, timeout=None),
        text_signature = "($self, fd, *, data=b'', tag=0, timeout=None)"
    )]
    fn send(
        &self,
        py: Python<'_>,
        fd: Passengers<'_>,
        data: Data<'_>,
        tag: u64,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let wait = wait_of(timeout)?;
        let data = data.as_bytes();
        let target = self.lock().clone().ok_or_else(|| {
            let text = format!(
                "cannot send to process {} at signal {}: the target is closed",
                self.pid, self.sig
            );
            PyOSError::new_err((libc::EBADF, text))
        })?;
        fd.lend(|fds| {
            interruptible(py, wait, |wait| {
                let options = SendOptions {
                    paths: Paths::empty(),
                    wait,
                    tag,
                    data,
                };
                target.send(fds, &options)
            })
        })
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
