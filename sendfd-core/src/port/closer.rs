//! Closing what may take long to close, in threads of its own.
//!
//! A stranger can send a socket whose close lasts as long as it likes (SO_LINGER and a peer that does
//! not read), and whoever drops its last reference waits. So what was not received by the program is
//! not closed by its threads: a few threads of this file do it, which end when there is nothing left.
//! What waits for them is bounded too; while there is no room, strangers are not looked at.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::sys::{self, Lock};

/// How many threads close at most, at the same time.
const THREADS: usize = 4;

/// How many descriptors may wait before no more are to be handed over.
const MOST: usize = 64;

/// How long [`close`] waits for what is usually a matter of microseconds.
const PATIENCE: Duration = Duration::from_millis(100);

const STACK: usize = 64 * 1024;

struct Job {
    fds: Vec<OwnedFd>,
    /// Dropped when it is done.
    _done: Option<Sender<()>>,
}

struct Closer {
    jobs: Vec<Job>,
    /// How many descriptors there are in `jobs` and in the hands of threads.
    held: usize,
    threads: usize,
}

static CLOSER: Lock<Closer> = Lock::new(Closer {
    jobs: Vec::new(),
    held: 0,
    threads: 0,
});

/// Whether more may be handed over.
pub(crate) fn has_room() -> bool {
    CLOSER.lock().held < MOST
}

/// Closes `fds` soon. Does not wait.
pub(crate) fn hand_over(fds: Vec<OwnedFd>) {
    submit(Job { fds, _done: None });
}

/// Closes `fds` and waits a moment until that is done; if it takes longer, it goes on without the
/// caller. Not to be called with a lock held.
pub(crate) fn close(fds: Vec<OwnedFd>) {
    if fds.is_empty() {
        return;
    }
    let (sender, receiver) = channel();
    submit(Job {
        fds,
        _done: Some(sender),
    });
    // Nothing is ever sent: the other end is dropped.
    let _ = receiver.recv_timeout(PATIENCE);
}

fn submit(job: Job) {
    let mut closer = CLOSER.lock();
    closer.held += job.fds.len();
    closer.jobs.push(job);
    let starts = closer.threads < THREADS;
    if starts {
        closer.threads += 1;
    }
    drop(closer);
    if starts {
        let thread = sys::with_signals_blocked(|| {
            thread::Builder::new()
                .name("sendfd-close".to_owned())
                .stack_size(STACK)
                .spawn(run)
        });
        if thread.is_err() {
            // Next time, perhaps. Until then they wait; there is a bound to how many.
            CLOSER.lock().threads -= 1;
        }
    }
}

fn run() {
    loop {
        let mut closer = CLOSER.lock();
        let Some(job) = closer.jobs.pop() else {
            closer.threads -= 1;
            return;
        };
        drop(closer);
        let count = job.fds.len();
        drop(job);
        CLOSER.lock().held -= count;
    }
}

pub(crate) fn hold_for_fork() {
    CLOSER.hold_for_fork();
}

pub(crate) fn release_in_parent() {
    CLOSER.release_after_fork(|_| ());
}

/// The threads do not exist in the child, and what they were to close is the parent's.
pub(crate) fn release_in_child() {
    CLOSER.release_after_fork(|closer| {
        let jobs = std::mem::take(&mut closer.jobs);
        for fd in jobs.iter().flat_map(|job| &job.fds) {
            sys::close_forgotten(fd.as_raw_fd());
        }
        std::mem::forget(jobs);
        closer.held = 0;
        closer.threads = 0;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_what_is_quick() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        close(vec![writer.into()]);
        // End of file comes once the writing end is closed.
        std::io::Read::read_to_end(&mut reader, &mut Vec::new()).expect("the end");
        assert!(has_room());
    }
}
