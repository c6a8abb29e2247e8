//! The native part of the Python package `sendfd`: types and errors are Python's, the work is
//! [`sendfd_core`]'s.
//!
//! Nothing here is called with a lock held that is needed to run Python, nor blocks while attached to
//! the interpreter.

mod arguments;
mod error;
mod kind;
mod message;
mod probe;
mod receiver;
mod send;
mod signals;
mod sys;
mod wait;

use pyo3::prelude::*;

/// The native part of sendfd. Use the package, not this.
#[pymodule]
mod _sendfd {
    use std::sync::atomic::{AtomicI64, Ordering};

    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    /// Classes belong to the interpreter that made them, so there is one. Since 3.12, Python itself
    /// refuses this to interpreters that have their own lock.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        static FIRST: AtomicI64 = AtomicI64::new(-1);
        let this = crate::sys::interpreter_id(module.py());
        match FIRST.compare_exchange(-1, this, Ordering::Relaxed, Ordering::Relaxed) {
            Err(first) if first != this => Err(PyImportError::new_err(
                "sendfd does not support loading in subinterpreters: use it in the interpreter that \
                 imported it first, or in another process",
            )),
            _ => Ok(()),
        }
    }

    #[pymodule_export]
    use crate::kind::detect;
    #[pymodule_export]
    use crate::message::Message;
    #[pymodule_export]
    use crate::probe::probe;
    #[pymodule_export]
    use crate::receiver::Receiver;
    #[pymodule_export]
    use crate::send::{Held, Outbound, Target, asend, hold, send};
    #[pymodule_export]
    use crate::signals::{listen, signalfd, sigtimedwait, unlisten};

    #[pymodule_export]
    const MAX_DATA: usize = sendfd_core::MAX_DATA;
    #[pymodule_export]
    const MAX_FDS: usize = sendfd_core::MAX_FDS;
    #[pymodule_export]
    const SI_SENDFD: i32 = sendfd_core::SI_SENDFD;
    #[pymodule_export]
    const VERSION: &str = sendfd_core::VERSION;
}
