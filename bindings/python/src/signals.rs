//! Signal mode, and the payload of signals, which Python's own `signal` module leaves out.

use std::os::fd::IntoRawFd;

use pyo3::prelude::*;
use rustix::io::Errno;
use sendfd_core::{Port, Wait};

use crate::error::{errno_error, os_error};
use crate::sys::{self, SignalSet};
use crate::wait::{Remaining, limit};

/// The signal, si_code, si_pid, si_uid, and si_value.sival_int.
type Info = (i32, i32, i32, u32, i32);

/// Start signal mode on sig.
#[pyfunction]
pub(crate) fn listen(py: Python<'_>, sig: i32) -> PyResult<()> {
    py.detach(|| sendfd_core::listen(Port::from_signal(sig)?))
        .map_err(os_error)
}

/// End signal mode on sig.
#[pyfunction]
pub(crate) fn unlisten(py: Python<'_>, sig: i32) -> PyResult<()> {
    py.detach(|| sendfd_core::unlisten(Port::from_signal(sig)?))
        .map_err(os_error)
}

/// Wait for one of the signals and return it with its payload.
#[pyfunction]
#[pyo3(signature = (signals, timeout=None))]
pub(crate) fn sigtimedwait(
    py: Python<'_>,
    signals: Vec<i32>,
    timeout: Option<f64>,
) -> PyResult<Option<Info>> {
    const ATTEMPT: &str = "cannot wait for signals";
    let set = SignalSet::new(&signals).map_err(|errno| errno_error(errno, ATTEMPT))?;
    let remaining = Remaining::of(limit(timeout)?);
    loop {
        let time = match remaining.now() {
            Wait::Never => Some(std::time::Duration::ZERO),
            Wait::For(time) => Some(time),
            Wait::Forever => None,
        };
        match py.detach(|| sys::take_signal(set, time)) {
            Ok(info) => {
                return Ok(Some((info.sig, info.code, info.pid, info.uid, info.value)));
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => py.check_signals()?,
            Err(errno) => return Err(errno_error(errno, ATTEMPT)),
        }
    }
}

/// Open a descriptor that is readable while one of the signals is pending.
#[pyfunction]
pub(crate) fn signalfd(signals: Vec<i32>) -> PyResult<i32> {
    SignalSet::new(&signals)
        .and_then(sys::signalfd)
        .map(IntoRawFd::into_raw_fd)
        .map_err(|errno| errno_error(errno, "cannot open a signalfd"))
}
