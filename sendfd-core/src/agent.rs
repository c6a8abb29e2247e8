//! The thread behind signal mode, as far as others have to know it.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::sys;

/// A thread that runs until it is told to end.
#[derive(Debug)]
pub(crate) struct Agent {
    /// Of the process that has the thread.
    generation: u32,
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
}

impl Agent {
    /// `thread` looks at `ending` from time to time.
    pub(crate) fn new(thread: JoinHandle<()>, ending: Arc<AtomicBool>) -> Self {
        Agent {
            generation: sys::generation(),
            thread,
            ending,
        }
    }

    /// Has it end soon.
    pub(crate) fn dismiss(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Waits until it has ended.
    pub(crate) fn join(self) {
        if sys::generation() == self.generation {
            // If it panicked, it has printed that.
            let _ = self.thread.join();
        } else {
            // A child forked in a signal handler that interrupted this call, and came back to it, has no
            // such thread.
            mem::forget(self);
        }
    }
}
