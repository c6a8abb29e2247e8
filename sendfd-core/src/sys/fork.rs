//! What runs around fork(2).

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

/// Three functions that fork(2) calls: before it, and after it in the parent and in the child. They
/// may run in a signal handler, without memory to be had: they take locks as
/// [`Lock::hold_for_fork`](super::Lock::hold_for_fork) does, make system calls, and neither allocate
/// nor free. Two threads may both have them registered, so that they run twice: the second time must
/// do nothing.
#[derive(Debug)]
pub(crate) struct AtFork {
    registered: AtomicBool,
    before: extern "C" fn(),
    in_parent: extern "C" fn(),
    in_child: extern "C" fn(),
}

impl AtFork {
    pub(crate) const fn new(
        before: extern "C" fn(),
        in_parent: extern "C" fn(),
        in_child: extern "C" fn(),
    ) -> Self {
        AtFork {
            registered: AtomicBool::new(false),
            before,
            in_parent,
            in_child,
        }
    }

    /// Has them called from now on. Whoever asks is told when that fails, and the next one tries anew.
    ///
    /// # References
    /// - [pthread_atfork(3)](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html)
    pub(crate) fn register(&self) -> Result<(), Errno> {
        // No lock: a child could find it held by a thread that it does not have.
        if self.registered.load(Ordering::Acquire) {
            return Ok(());
        }
        // SAFETY: three functions without arguments that live as long as the process: the library is
        // linked so that it is never unloaded.
        let answer = unsafe {
            libc::pthread_atfork(Some(self.before), Some(self.in_parent), Some(self.in_child))
        };
        if answer != 0 {
            return Err(Errno::from_raw_os_error(answer));
        }
        self.registered.store(true, Ordering::Release);
        Ok(())
    }
}
