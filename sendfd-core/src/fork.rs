//! fork(2): a child inherits copies of its parent's inboxes, which would keep a dead parent's
//! queues alive and let the child take what was sent to the parent. So the child closes them.
//!
//! The process may be in any state: other threads at work in a port, no memory or descriptors to be
//! had, or in a signal handler that interrupted the work of this very thread. So the thread that forks
//! takes every lock that it does not have. Where it has one, because the handler that forks interrupted it,
//! the interrupted work finds out in the child and closes the port there.

use crate::error::Cause;
use crate::sys::AtFork;
use crate::{port, ports};

static AT_FORK: AtFork = AtFork::new(before, after_in_parent, after_in_child);

/// To be called before there is something that a child must not keep.
pub(crate) fn prepare_for_it() -> Result<(), Cause> {
    Ok(AT_FORK.register()?)
}

extern "C" fn before() {
    ports::hold_for_fork();
    port::hold_closer_for_fork();
}

extern "C" fn after_in_parent() {
    port::release_closer_in_parent();
    ports::release_in_parent();
}

extern "C" fn after_in_child() {
    port::release_closer_in_child();
    ports::release_in_child();
}
