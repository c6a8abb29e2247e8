//! The thread behind signal mode, as far as others have to know it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A thread that runs until it is told to end.
#[derive(Debug)]
pub(crate) struct Agent {
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
}

impl Agent {
    /// `thread` looks at `ending` from time to time.
    pub(crate) fn new(thread: JoinHandle<()>, ending: Arc<AtomicBool>) -> Self {
        Agent { thread, ending }
    }

    /// Has it end soon.
    pub(crate) fn dismiss(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// The thread, for who waits until it has ended.
    pub(crate) fn into_thread(self) -> JoinHandle<()> {
        self.thread
    }
}
