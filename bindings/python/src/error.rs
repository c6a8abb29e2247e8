//! Errors as Python has them: the subclass of `OSError` that belongs to the errno.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::io::Errno;

/// Python itself picks `ProcessLookupError`, `PermissionError`, ... by the errno.
pub(crate) fn os_error(error: sendfd_core::Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), error.to_string()))
}

pub(crate) fn errno_error(errno: Errno, attempt: &str) -> PyErr {
    PyOSError::new_err((errno.raw_os_error(), format!("{attempt}: {errno}")))
}
