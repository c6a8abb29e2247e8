//! Which paths lead to a target, and why the others do not.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sendfd_core::Port;

use crate::arguments::Pid;
use crate::error::os_error;

/// pid, sig, the path that a send would take, and for each path its name and error.
type Report = (
    u32,
    i32,
    Option<&'static str>,
    Vec<(&'static str, Option<Py<PyAny>>)>,
);

/// Try each path to process pid at sig, or without them from this process to itself.
#[pyfunction]
#[pyo3(signature = (pid=None, sig=None))]
pub(crate) fn probe(py: Python<'_>, pid: Option<Pid>, sig: Option<i32>) -> PyResult<Report> {
    let report = match (pid, sig) {
        (Some(pid), Some(sig)) => {
            py.detach(|| sendfd_core::probe(pid.number(), Port::from_signal(sig)?))
        }
        (None, None) => py.detach(sendfd_core::probe_self),
        _ => return Err(PyTypeError::new_err("pid and sig go together")),
    };
    let report = report.map_err(os_error)?;
    let chosen = report.chosen().map(|path| path.as_str());
    let paths = report.paths.iter().map(|entry| {
        let error = entry
            .error
            .map(|error| os_error(error).into_value(py).into_any());
        (entry.path.as_str(), error)
    });
    Ok((report.pid, report.port.signal(), chosen, paths.collect()))
}
