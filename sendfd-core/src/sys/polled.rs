//! Registering a descriptor with a tokio runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;

/// Has the runtime poll `fd` for reading. To be called in a runtime.
pub(crate) fn polled(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the Arc keeps the descriptor open, and an OwnedFd keeps its number. Only a forked child
    // puts another open file there, and the runtime's threads are not in it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
