//! What Python programmers pass: a process or its pid, anything with a `fileno()`, any buffer.

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyInt, PyList, PyMemoryView, PyString, PyTuple, PyType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sendfd_core::{Path, Paths, WaitFor};

use crate::sys;

/// A pid: an int, or the `pid` of a process object.
pub(crate) struct Pid(u32);

impl Pid {
    /// The core has no word for what is below 0, and says itself what is wrong with 0.
    fn new(number: i32) -> PyResult<Self> {
        u32::try_from(number).map(Pid).map_err(|_| {
            let text = format!("there is no process {number}: a pid is 1 or more");
            PyOSError::new_err((libc::EINVAL, text))
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.0
    }
}

impl FromPyObject<'_, '_> for Pid {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyInt>() {
            return Pid::new(object.extract()?);
        }
        let py = object.py();
        if let Some(pid) = multiprocessing_pid(&object)? {
            return Pid::new(pid);
        }
        let Some(pid) = object.getattr_opt(intern!(py, "pid"))? else {
            let number = object.extract().map_err(|_| {
                PyTypeError::new_err(format!(
                    "a pid must be an int or an object with a pid, not {}",
                    type_name(&object)
                ))
            })?;
            return Pid::new(number);
        };
        if pid.is_none() {
            return Err(PyValueError::new_err("the process has not been started"));
        }
        // Once its end was collected, the pid may be somebody else's.
        if let Some(status) = status_of(&object)? {
            return Err(PyOSError::new_err((
                libc::ESRCH,
                format!("process {pid} has exited with status {status}"),
            )));
        }
        Pid::new(pid.extract()?)
    }
}

/// The pid of a process of multiprocessing that runs, without asking its properties: `exitcode` makes
/// selectors and waits. `None` for anything else.
fn multiprocessing_pid(process: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    let py = process.py();
    let Some(popen) = process.getattr_opt(intern!(py, "_popen"))? else {
        return Ok(None);
    };
    let number = |name| -> PyResult<Option<i32>> {
        let value = popen.getattr_opt(name)?;
        Ok(value.and_then(|value| value.extract().ok()))
    };
    let ended = popen.getattr_opt(intern!(py, "returncode"))?;
    if !ended.is_some_and(|status| status.is_none()) {
        return Ok(None);
    }
    // A child of the fork server is not ours: its pid may be another's as soon as it has exited, when its
    // sentinel becomes readable. Ours keeps it until its end is collected.
    let method = popen.getattr_opt(intern!(py, "method"))?;
    let ours = method.is_some_and(|method| matches!(method.extract(), Ok("fork" | "spawn")));
    let sentinel = if ours {
        None
    } else {
        number(intern!(py, "sentinel"))?
    };
    if let Some(sentinel @ 0..) = sentinel {
        let mut fds = [PollFd::from_borrowed_fd(
            sys::borrow(sentinel),
            PollFlags::IN,
        )];
        if poll(&mut fds, Some(&Timespec::default())) != Ok(0) {
            return Ok(None);
        }
    }
    number(intern!(py, "pid"))
}

/// With what a process ended, if its object knows. Popen and asyncio say returncode, multiprocessing
/// says exitcode.
fn status_of<'py>(process: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = process.py();
    let some = |status: Option<Bound<'py, PyAny>>| status.filter(|status| !status.is_none());
    if let Some(status) = process.getattr_opt(intern!(py, "returncode"))? {
        return Ok(some(Some(status)));
    }
    Ok(some(process.getattr_opt(intern!(py, "exitcode"))?))
}

/// The descriptors to send. What they were taken from is kept alive, so that they stay open.
pub(crate) struct Passengers<'py> {
    numbers: Numbers,
    _owners: Vec<Bound<'py, PyAny>>,
}

/// Nearly always there is one, which needs no allocation.
enum Numbers {
    One(RawFd),
    Many(Vec<RawFd>),
}

impl<'py> Passengers<'py> {
    /// Lends the descriptors to `f`.
    pub(crate) fn lend<R>(&self, f: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
        match &self.numbers {
            Numbers::One(number) => f(&[sys::borrow(*number)]),
            Numbers::Many(numbers) => {
                let fds: Vec<_> = numbers.iter().map(|number| sys::borrow(*number)).collect();
                f(&fds)
            }
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Passengers<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Some(number) = number_of(&object)? {
            return Ok(Passengers {
                numbers: Numbers::One(number),
                _owners: Vec::new(),
            });
        }
        let mut numbers = Vec::new();
        let mut owners = Vec::new();
        let mut add = |item: Bound<'py, PyAny>| {
            let number = number_of(&item)?.ok_or_else(|| no_descriptor(&item))?;
            numbers.push(number);
            if !item.is_instance_of::<PyInt>() {
                owners.push(item);
            }
            Ok::<_, PyErr>(())
        };
        if let Ok(list) = object.cast::<PyList>() {
            list.iter().try_for_each(&mut add)?;
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            tuple.iter().try_for_each(&mut add)?;
        } else if is_text_or_bytes(&object) {
            return Err(no_descriptor(&object));
        } else {
            let items = object.try_iter().map_err(|_| no_descriptor(&object))?;
            for item in items {
                add(item?)?;
            }
        }
        Ok(Passengers {
            numbers: Numbers::Many(numbers),
            _owners: owners,
        })
    }
}

/// The descriptor that `object` is or has; `None` if it may be a list of such.
fn number_of(object: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let number = if object.is_instance_of::<PyInt>() {
        object.extract::<RawFd>()?
    } else if let Some(method) = object.getattr_opt(intern!(object.py(), "fileno"))? {
        let number = method.call0()?;
        check(object)?;
        if !number.is_instance_of::<PyInt>() {
            return Err(PyTypeError::new_err("fileno() returned a non-integer"));
        }
        number.extract::<RawFd>()?
    } else {
        return Ok(None);
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "a descriptor cannot be negative ({number}): is it closed?"
        )));
    }
    Ok(Some(number))
}

/// Refuses what would lose bytes. A plain socket has no buffer.
fn check(object: &Bound<'_, PyAny>) -> PyResult<()> {
    static SOCKET: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CHECK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    if object.get_type().is(SOCKET.import(py, "socket", "socket")?) {
        return Ok(());
    }
    let check = CHECK.import(py, "sendfd._passenger", "check")?;
    check.call1((object,)).map(drop)
}

/// Going through these would take their bytes for descriptors.
fn is_text_or_bytes(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>()
        || object.is_instance_of::<PyMemoryView>()
}

fn no_descriptor(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "expected a descriptor, an object with fileno(), or a list of them, not {}{}",
        type_name(object),
        if type_name(object) == "StreamWriter" {
            ": take its socket with sendfd.aio.release(reader, writer)"
        } else {
            ""
        }
    ))
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    match object.get_type().name() {
        Ok(name) => name.to_string(),
        Err(_) => "this".to_owned(),
    }
}

/// Bytes, or a copy of what another buffer holds.
pub(crate) struct Data<'py>(Option<Bound<'py, PyBytes>>);

impl Data<'_> {
    pub(crate) const EMPTY: Self = Data(None);

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |bytes| bytes.as_bytes())
    }
}

impl<'py> FromPyObject<'_, 'py> for Data<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Data(Some(bytes.to_owned())));
        }
        let view = PyMemoryView::from(&object)?;
        let copy = view.call_method0(intern!(object.py(), "tobytes"))?;
        Ok(Data(Some(copy.cast_into::<PyBytes>()?)))
    }
}

/// What a wait may be for: 'listening' or 'room'.
#[derive(Clone, Copy)]
pub(crate) struct Until(pub(crate) WaitFor);

impl Until {
    pub(crate) const BOTH: Self = Until(WaitFor::Listening);
}

impl FromPyObject<'_, '_> for Until {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        match object.extract::<&str>()? {
            "listening" => Ok(Until(WaitFor::Listening)),
            "room" => Ok(Until(WaitFor::Room)),
            other => Err(PyValueError::new_err(format!(
                "{other:?} is nothing to wait for: these are 'listening' and 'room'"
            ))),
        }
    }
}

/// `"pidfd,name"` or a collection of such words. `None` and nothing at all mean every path.
pub(crate) struct Wish(pub(crate) Paths);

impl FromPyObject<'_, '_> for Wish {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let mut paths = Paths::empty();
        if let Ok(list) = object.extract::<&str>() {
            for word in list.split(',') {
                paths |= path(word.trim())?;
            }
        } else {
            for word in object.try_iter()? {
                paths |= path(word?.extract::<&str>()?)?;
            }
        }
        if paths.is_empty() {
            return Err(PyValueError::new_err(
                "name at least one path, or leave them out to allow all",
            ));
        }
        Ok(Wish(paths))
    }
}

fn path(word: &str) -> PyResult<Paths> {
    Path::ALL
        .into_iter()
        .find(|path| path.as_str() == word)
        .map(Paths::from)
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "{word:?} is not a path: these are 'syscall', 'pidfd' and 'name'"
            ))
        })
}
