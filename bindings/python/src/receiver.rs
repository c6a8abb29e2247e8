//! The receiving end. What has to do with event loops is added to it in Python.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sendfd_core::{Cause, Port, ReceiverOptions, Wait};

use crate::error::os_error;
use crate::message::Message;
use crate::wait::{blocks, interruptible, limit};

/// Receives what other processes send to this process at one signal.
///
/// Where messages queue up, and no thread waits and fileno() was never called, up to eight are taken
/// from the kernel at once and given out one by one: the descriptors of the next seven may be in this
/// process's table early. They are closed with the receiver, and in a forked child.
#[pyclass(module = "sendfd._sendfd", subclass, frozen)]
pub(crate) struct Receiver {
    /// The signal that it listens on.
    #[pyo3(get)]
    sig: i32,
    /// `None` once it was closed. Never locked while detached from the interpreter.
    open: Mutex<Option<Arc<sendfd_core::Receiver>>>,
}

/// How many messages `recv_many` takes at most.
const MOST: usize = 1024;

impl Receiver {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<sendfd_core::Receiver>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> PyResult<Arc<sendfd_core::Receiver>> {
        self.lock().clone().ok_or_else(|| {
            let text = format!(
                "cannot receive at signal {}: the receiver is closed",
                self.sig
            );
            PyOSError::new_err((libc::EBADF, text))
        })
    }
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (sig, *, uids=Vec::new(), queue_bytes=0), text_signature = "(sig, *, uids=(), queue_bytes=0)")]
    fn new(sig: i32, uids: Vec<u32>, queue_bytes: u32) -> PyResult<Self> {
        let options = ReceiverOptions::new().uids(&uids).queue_bytes(queue_bytes);
        let open = Port::from_signal(sig)
            .and_then(|port| sendfd_core::Receiver::open_with(port, &options))
            .map_err(os_error)?;
        Ok(Receiver {
            sig,
            open: Mutex::new(Some(Arc::new(open))),
        })
    }

    /// Receive one message. Blocks until there is one, for timeout seconds at most.
    ///
    /// None is no limit; 0 does not block. Signals that are handled meanwhile run their Python handlers,
    /// and the wait goes on unless those raise.
    ///
    /// Raises BlockingIOError if there is no message and timeout is 0; TimeoutError if none came in
    /// time; OSError (EMFILE) if this process's descriptor table is full, and the message stays;
    /// OSError (EBADF) if the receiver is closed or belongs to the parent of this process; OSError
    /// (ESHUTDOWN) if it has retired and the last message was received; ValueError for a timeout below
    /// 0. Nothing is lost on an error.
    #[pyo3(signature = (timeout=None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let wait = limit(timeout)?;
        blocks(py, wait, "sendfd.Receiver.recv")?;
        let receiver = self.get()?;
        let mut message = Message::empty();
        interruptible(py, wait, |wait| receiver.recv_into(&mut message, wait))?;
        message.into_python(py)
    }

    /// Receive up to so many messages. Blocks until there is one, as recv() does, and then takes what is
    /// there without waiting for more.
    ///
    /// Raises what recv() raises, when there is nothing to return, and ValueError for a count of 0.
    #[pyo3(signature = (count, timeout=None), text_signature = "($self, count, timeout=None)")]
    fn recv_many(
        &self,
        py: Python<'_>,
        count: usize,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Py<PyAny>>> {
        if count == 0 {
            return Err(PyValueError::new_err("the count must be 1 or more"));
        }
        let wait = limit(timeout)?;
        blocks(py, wait, "sendfd.Receiver.recv_many")?;
        let receiver = self.get()?;
        // Whoever asks for more than can be queued need not pay for it.
        let mut messages: Vec<_> = (0..count.min(MOST)).map(|_| Message::empty()).collect();
        let taken = interruptible(py, wait, |wait| receiver.recv_many(&mut messages, wait))?;
        messages.truncate(taken);
        let each = messages.into_iter();
        each.map(|message| message.into_python(py)).collect()
    }

    /// Receive one message, or None where recv(0) would raise BlockingIOError.
    fn _recv_nowait(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let receiver = self.get()?;
        let mut message = Message::empty();
        match py.detach(|| receiver.recv_into(&mut message, Wait::Never)) {
            Ok(()) => message.into_python(py).map(Some),
            Err(error) if matches!(error.cause(), Cause::Empty | Cause::Interrupted) => Ok(None),
            Err(error) => Err(os_error(error)),
        }
    }

    /// The descriptor to poll for reading, borrowed; -1 once the receiver is closed.
    ///
    /// It is readable whenever there may be something to receive: poll, then recv(timeout=0), and take
    /// BlockingIOError for nothing yet.
    fn fileno(&self) -> RawFd {
        self.lock().as_ref().map_or(-1, |open| open.as_raw_fd())
    }

    /// Whether the receiver was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.lock().is_none()
    }

    /// How many records were dropped unread, with their descriptors closed: from users that are not
    /// accepted, or not made by this library. 0 once the receiver is closed.
    #[getter]
    fn dropped(&self) -> u64 {
        self.lock().as_ref().map_or(0, |open| open.dropped())
    }

    /// Stop accepting, and go on receiving.
    ///
    /// From now on senders get ConnectionRefusedError, or reach whoever listens at the signal next, which
    /// may be a new receiver of this process. What was sent before is received to the last message:
    /// then iterations end, and recv(), recv_many() and arecv() raise OSError (ESHUTDOWN). Close it
    /// after that. Threads and tasks that wait are woken when there is nothing left for them.
    ///
    /// Does not block, and may be called from a signal handler of Python's; to retire twice does nothing.
    /// Raises OSError (EBADF) if the receiver is closed or belongs to the parent of this process.
    fn retire(&self) -> PyResult<()> {
        self.get()?.retire().map_err(os_error)
    }

    /// Stop listening.
    fn close(&self, py: Python<'_>) {
        let open = self.lock().take();
        if let Some(open) = open {
            py.detach(|| {
                open.close();
                drop(open);
            });
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: &Bound<'_, Self>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        // By name: the subclass has more to close.
        slf.call_method0("close").map(drop)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next message; the iteration ends when the receiver is closed, or has retired and is empty.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(receiver) = self.lock().clone() else {
            return Ok(None);
        };
        let mut message = Message::empty();
        let mut was_last = false;
        let received = interruptible(py, Wait::Forever, |wait| {
            receiver
                .recv_into(&mut message, wait)
                .inspect_err(|error| was_last = error.cause() == Cause::Retired)
        });
        match received {
            Ok(()) => message.into_python(py).map(Some),
            Err(_) if was_last || self.closed() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
