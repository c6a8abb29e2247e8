//! A received message, and what Python makes of its descriptors.

use std::cell::Cell;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBytes, PyTuple, PyType};
use rustix::fs::{OFlags, fcntl_getfl};
use sendfd_core::{Credentials, Incoming, MAX_DATA, MAX_FDS, Path, Room};

/// A received message. What it says when it is forgotten is added to it in Python.
#[pyclass(module = "sendfd._sendfd", subclass, frozen)]
pub(crate) struct Message {
    /// One for each descriptor, in the order sent; `None` once it was taken or closed.
    slots: Mutex<Vec<Option<OwnedFd>>>,
    data: Vec<u8>,
    /// The sender's number.
    #[pyo3(get)]
    tag: u64,
    sender: Credentials,
    path: Path,
}

impl Message {
    pub(crate) fn empty() -> Self {
        Message {
            slots: Mutex::default(),
            data: Vec::new(),
            tag: 0,
            sender: Credentials::default(),
            path: Path::Pidfd,
        }
    }

    /// The Python object: of the subclass, which can say where it came from when it is forgotten.
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = CLASS.import(py, "sendfd._message", "Message")?;
        ARRIVED.set(Some(self));
        let made = class.call0();
        // If that failed, it is closed here.
        ARRIVED.set(None);
        made.map(Bound::unbind)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<OwnedFd>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, index: usize) -> PyResult<OwnedFd> {
        let mut slots = self.slots();
        let count = slots.len();
        let slot = slots.get_mut(index).ok_or_else(|| {
            PyIndexError::new_err(format!("the message carries {count} descriptors"))
        })?;
        slot.take().ok_or_else(|| gone(index))
    }

    /// Takes a descriptor for `make`, which makes an object that owns it. It stays if that fails.
    fn hand_over<'py>(
        &self,
        index: usize,
        make: impl FnOnce(RawFd) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fd = self.take(index)?;
        match make(fd.as_raw_fd()) {
            Ok(owner) => {
                let _ = fd.into_raw_fd();
                Ok(owner)
            }
            Err(error) => {
                self.slots()[index] = Some(fd);
                Err(error)
            }
        }
    }
}

thread_local! {
    /// On its way from `into_python` to `new`.
    static ARRIVED: Cell<Option<Message>> = const { Cell::new(None) };
}

fn gone(index: usize) -> PyErr {
    PyValueError::new_err(format!(
        "descriptor {index} of the message was taken or closed before"
    ))
}

/// The timeout that a socket is to have: as it comes, or what the caller says.
enum Blocking<'py> {
    AsItComes,
    Say(Bound<'py, PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for Blocking<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Blocking::Say(object.to_owned()))
    }
}

impl Room for Message {
    fn room(&self) -> (usize, usize) {
        (MAX_FDS, MAX_DATA)
    }

    fn put(&mut self, incoming: Incoming<'_>) {
        self.slots = Mutex::new(incoming.fds.map(Some).collect());
        self.data = incoming.data.to_vec();
        self.tag = incoming.tag;
        self.sender = incoming.sender;
        self.path = incoming.path;
    }
}

#[pymethods]
impl Message {
    #[new]
    fn new() -> PyResult<Self> {
        ARRIVED
            .take()
            .ok_or_else(|| PyTypeError::new_err("a message is received, and cannot be made"))
    }

    /// The descriptors, in the order sent; None for those that were taken or closed.
    #[getter]
    fn fds<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let number = |slot: &Option<OwnedFd>| slot.as_ref().map(AsRawFd::as_raw_fd);
        PyTuple::new(py, self.slots().iter().map(number).collect::<Vec<_>>())
    }

    /// The first descriptor, which stays the message's. ValueError once it was taken or closed.
    #[getter]
    fn fd(&self) -> PyResult<RawFd> {
        match self.slots().first() {
            Some(Some(fd)) => Ok(fd.as_raw_fd()),
            _ => Err(gone(0)),
        }
    }

    /// The sender's bytes.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.data)
    }

    /// The sender's process id; 0 if it cannot be seen from this pid namespace. It is no address to
    /// answer to: by then it may be another process's.
    #[getter]
    fn pid(&self) -> u32 {
        self.sender.pid
    }

    /// The sender's user id.
    #[getter]
    fn uid(&self) -> u32 {
        self.sender.uid
    }

    /// The sender's group id.
    #[getter]
    fn gid(&self) -> u32 {
        self.sender.gid
    }

    /// The way it came: 'syscall', 'pidfd' or 'name'.
    #[getter]
    fn path(&self) -> &'static str {
        self.path.as_str()
    }

    /// Take a descriptor as a socket.socket, its family, type and protocol detected.
    ///
    /// The socket object owns it then. timeout is as in socket.settimeout(): None blocks, 0 never does.
    /// Whether it blocks is a property of the open file (O_NONBLOCK), which the sender shares: this
    /// changes it for both. Left out, it stays as it came: the object's timeout is 0 if it was
    /// non-blocking.
    ///
    /// Raises OSError (ENOTSOCK) if it is no socket, and IndexError or ValueError like detach(); the
    /// message keeps it then.
    #[pyo3(
        signature = (index=0, *, timeout=Blocking::AsItComes),
        text_signature = "($self, index=0, *, timeout=...)"
    )]
    fn socket<'py>(
        &self,
        py: Python<'py>,
        index: usize,
        timeout: Blocking<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static SOCKET: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let class = SOCKET.import(py, "socket", "socket")?;
        self.hand_over(index, |number| {
            let named = [(intern!(py, "fileno"), number)].into_py_dict(py)?;
            let socket = class.call((), Some(&named))?;
            if let Blocking::Say(timeout) = &timeout {
                if let Err(error) = socket.call_method1(intern!(py, "settimeout"), (timeout,)) {
                    // The message keeps the descriptor, so the object must not close it.
                    socket.call_method0(intern!(py, "detach"))?;
                    return Err(error);
                }
                return Ok(socket);
            }
            // O_NONBLOCK travels with the open file. A socket object that did not know of it
            // would raise BlockingIOError where its timeout says that it waits.
            let flags = fcntl_getfl(crate::sys::borrow(number));
            if flags.is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
                && socket.call_method0(intern!(py, "gettimeout"))?.is_none()
            {
                socket.call_method1(intern!(py, "setblocking"), (false,))?;
            }
            Ok(socket)
        })
    }

    /// Take a descriptor as a file object, as the built-in open() makes it.
    ///
    /// The file object owns it then. Raises what open() raises for the arguments, and IndexError or
    /// ValueError like detach(); the message keeps it then.
    #[pyo3(signature = (mode="r", buffering=-1, encoding=None, errors=None, newline=None, *, index=0), text_signature = "($self, mode='r', buffering=-1, encoding=None, errors=None, newline=None, *, index=0)")]
    #[allow(clippy::too_many_arguments)]
    fn open<'py>(
        &self,
        py: Python<'py>,
        mode: &str,
        buffering: i32,
        encoding: Option<&str>,
        errors: Option<&str>,
        newline: Option<&str>,
        index: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        static OPEN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let open = OPEN.import(py, "io", "open")?;
        self.hand_over(index, |number| {
            let with = |closes: bool| {
                open.call1((number, mode, buffering, encoding, errors, newline, closes))
            };
            // open() may or may not have closed the descriptor when it fails. So that the message
            // still has it then, it is tried with a file object that does not own it.
            with(false)?.call_method0(intern!(py, "close"))?;
            with(true)
        })
    }

    /// Take a descriptor as a number, which is the caller's to close.
    ///
    /// Raises IndexError if there were fewer, ValueError if it was taken or closed before.
    #[pyo3(signature = (index=0))]
    fn detach(&self, index: usize) -> PyResult<RawFd> {
        self.take(index).map(IntoRawFd::into_raw_fd)
    }

    /// Take all descriptors that were not taken yet; they are the caller's to close.
    fn detach_all(&self) -> Vec<RawFd> {
        let mut slots = self.slots();
        let left = slots.iter_mut().filter_map(Option::take);
        left.map(IntoRawFd::into_raw_fd).collect()
    }

    /// Close the descriptors that were not taken. Closing twice does nothing.
    fn close(&self, py: Python<'_>) {
        let left: Vec<_> = self.slots().iter_mut().filter_map(Option::take).collect();
        if !left.is_empty() {
            // Closing the last reference to a file may block.
            py.detach(|| drop(left));
        }
    }

    /// `__del__` of the Python class, which is called for each message: nearly always all was taken.
    fn _finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().slots().iter().any(Option::is_some) {
            slf.call_method0(intern!(slf.py(), "_forgotten"))?;
        }
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("<sendfd.Message fds={}", self.fds(py)?.repr()?);
        let Credentials { pid, uid, gid, .. } = self.sender;
        // Writing to a String cannot fail.
        let _ = write!(text, " pid={pid} uid={uid} gid={gid} tag={}", self.tag);
        if !self.data.is_empty() {
            let _ = write!(text, " data={}", self.data(py).repr()?);
        }
        let _ = write!(text, " path='{}'>", self.path.as_str());
        Ok(text)
    }
}
