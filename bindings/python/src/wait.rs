//! Waiting as Python does it: detached from the interpreter, and again after a signal (PEP 475).

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use sendfd_core::{Cause, Wait};

use crate::error::os_error;

/// Seconds; what the clock cannot count to is no limit.
fn seconds(timeout: f64) -> PyResult<Wait> {
    if timeout.is_nan() || timeout < 0.0 {
        return Err(PyValueError::new_err(
            "the timeout must be a number of seconds, 0 or more",
        ));
    }
    if timeout == 0.0 {
        return Ok(Wait::Never);
    }
    Ok(match Duration::try_from_secs_f64(timeout) {
        // Too short to count is still not zero.
        Ok(Duration::ZERO) => Wait::For(Duration::from_nanos(1)),
        Ok(time) => Wait::For(time),
        Err(_) => Wait::Forever,
    })
}

/// What Python programs say: seconds, or None for no limit.
pub(crate) fn limit(timeout: Option<f64>) -> PyResult<Wait> {
    timeout.map_or(Ok(Wait::Forever), seconds)
}

/// In Python's development mode, warns whoever is about to block the thread of a running event loop.
pub(crate) fn blocks(py: Python<'_>, wait: Wait, call: &str) -> PyResult<()> {
    static DEVELOPMENT: PyOnceLock<bool> = PyOnceLock::new();
    let development = || -> PyResult<bool> {
        let flags = py.import("sys")?.getattr("flags")?;
        flags.getattr("dev_mode")?.extract()
    };
    if wait != Wait::Never && *DEVELOPMENT.get_or_try_init(py, development)? {
        let module = py.import("sendfd._loops")?;
        module.call_method1("warn_if_running", (call,))?;
    }
    Ok(())
}

/// How much of a wait is left.
#[derive(Clone, Copy)]
pub(crate) struct Remaining {
    wait: Wait,
    end: Option<Instant>,
}

impl Remaining {
    pub(crate) fn of(wait: Wait) -> Self {
        let end = match wait {
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::Never | Wait::Forever => None,
        };
        Remaining { wait, end }
    }

    pub(crate) fn now(self) -> Wait {
        match self.end {
            Some(end) => Wait::For(end.saturating_duration_since(Instant::now())),
            None => self.wait,
        }
    }
}

/// Runs `attempt`, which may block, detached. A signal that arrives meanwhile has its Python handler
/// called, which may raise; else the attempt is made again with what is left of `wait`.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    wait: Wait,
    mut attempt: impl FnMut(Wait) -> sendfd_core::Result<T> + Send,
) -> PyResult<T> {
    let remaining = Remaining::of(wait);
    let mut now = wait;
    loop {
        match py.detach(|| attempt(now)) {
            Err(error) if error.cause() == Cause::Interrupted => {
                py.check_signals()?;
                now = remaining.now();
            }
            result => return result.map_err(os_error),
        }
    }
}
