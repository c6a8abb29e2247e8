//! Closing what may take long to close, in threads of its own.
//!
//! A stranger can send a socket whose close lasts as long as it likes (SO_LINGER and a peer that does
//! not read), and whoever drops its last reference waits. So what was not received by the program is
//! not closed by its threads: a few threads of this file do it, which end when there is nothing left.
//! What waits for them is bounded too; while there is no room, strangers are not looked at.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::source::{Set, Source, let_go};
use crate::sys::{self, Event, Lock};

/// How many threads close at most, at the same time.
const THREADS: usize = 4;

/// How many descriptors may wait before no more are to be handed over.
const MOST: usize = 64;

/// How long [`close`] and [`wait_for`] wait for what is usually a matter of microseconds.
const PATIENCE: Duration = Duration::from_millis(100);

const STACK: usize = 64 * 1024;

struct Job {
    /// What is to be taken out of its queue first.
    unread: Option<Unread>,
    fds: Vec<OwnedFd>,
    /// Told when it is done.
    done: Option<Arc<Event>>,
}

/// The record at the head of a queue, which nobody is to receive: the kernel closes what it carries in
/// whichever thread takes it out. Its socket is left alone meanwhile.
pub(crate) struct Unread {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) set: Set,
    pub(crate) source: Source,
}

impl Unread {
    fn drop_it(&self) {
        let _ = sys::discard(self.socket.as_fd());
        let _ = self.set.watch(&self.socket, self.source);
    }
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

/// Whether more may be handed over. While it may not, nothing more is to be taken from whoever sends
/// what has to be closed here.
pub(crate) fn has_room() -> bool {
    let closer = CLOSER.lock();
    let (has_room, forsaken) = (closer.held < MOST, closer.threads == 0);
    drop(closer);
    if !has_room && forsaken {
        start_thread();
    }
    has_room
}

/// Closes `fds` soon. Does not wait. What was taken together may be handed over together, however full
/// it is.
pub(crate) fn hand_over(fds: Vec<OwnedFd>) {
    submit(Job {
        unread: None,
        fds,
        done: None,
    });
}

/// Closes `fds` and waits a moment until that is done; if it takes longer, or no thread can be
/// started now, it is done without the caller. Not to be called with a lock held.
pub(crate) fn close(fds: Vec<OwnedFd>) {
    if fds.is_empty() {
        return;
    }
    let own = sys::generation();
    let done = Arc::new(Event::new());
    let started = submit(Job {
        unread: None,
        fds,
        done: Some(Arc::clone(&done)),
    });
    match started {
        Started::New(thread) => {
            if thread.ended.wait(PATIENCE) {
                // It has nothing more to do, and leaves nothing behind.
                sys::join(thread.handle, own);
            }
        }
        Started::Enough => {
            done.wait(PATIENCE);
        }
        Started::Failed => {}
    }
}

/// Takes a record out of its queue soon, and has its socket watched again. Does not wait. `None` if no
/// thread can be started now: nothing happens then.
pub(crate) fn drop_unread(unread: Unread) -> Option<Arc<Event>> {
    let done = Arc::new(Event::new());
    let started = submit(Job {
        unread: Some(unread),
        fds: Vec::new(),
        done: Some(Arc::clone(&done)),
    });
    if matches!(started, Started::Failed) && withdraw(&done) {
        return None;
    }
    Some(done)
}

/// Waits a moment until something is done. Not to be called with a lock held.
pub(crate) fn wait_for(done: &Event) {
    done.wait(PATIENCE);
}

/// Takes back what no thread has begun with. False if one has.
fn withdraw(done: &Arc<Event>) -> bool {
    let mut closer = CLOSER.lock();
    let is_it = |job: &Job| job.done.as_ref().is_some_and(|of| Arc::ptr_eq(of, done));
    let at = closer.jobs.iter().position(is_it);
    let job = at.map(|at| closer.jobs.remove(at));
    drop(closer);
    job.is_some()
}

enum Started {
    New(Thread),
    /// There are as many as there may be, or at least one.
    Enough,
    /// There is none: what waits does so until the next attempt.
    Failed,
}

struct Thread {
    handle: JoinHandle<()>,
    ended: Arc<Event>,
}

fn submit(job: Job) -> Started {
    let mut closer = CLOSER.lock();
    closer.held += job.fds.len();
    closer.jobs.push(job);
    drop(closer);
    start_thread()
}

fn start_thread() -> Started {
    let mut closer = CLOSER.lock();
    if closer.threads == THREADS {
        return Started::Enough;
    }
    closer.threads += 1;
    drop(closer);
    let ended = Arc::new(Event::new());
    let handle = sys::with_signals_blocked(|| {
        let ended = Arc::clone(&ended);
        thread::Builder::new()
            .name("sendfd-close".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                work();
                ended.set();
            })
    });
    if let Ok(handle) = handle {
        return Started::New(Thread { handle, ended });
    }
    let mut closer = CLOSER.lock();
    closer.threads -= 1;
    match closer.threads {
        0 => Started::Failed,
        _ => Started::Enough,
    }
}

fn work() {
    loop {
        let mut closer = CLOSER.lock();
        let Some(job) = closer.jobs.pop() else {
            closer.threads -= 1;
            return;
        };
        drop(closer);
        if let Some(unread) = &job.unread {
            unread.drop_it();
        }
        let count = job.fds.len();
        drop(job.fds);
        CLOSER.lock().held -= count;
        if let Some(done) = job.done {
            done.set();
        }
        if let Some(Unread { socket, set, .. }) = job.unread {
            drop(let_go(socket, &set));
        }
    }
}

pub(crate) fn hold_for_fork() {
    CLOSER.hold_for_fork();
}

pub(crate) fn release_in_parent() {
    CLOSER.release_after_fork(|_| ());
}

/// The threads do not exist in the child. It has copies of what they were to close, of which it may be the last to
/// have one: so it does not close them here either, but with the next that a thread of its own closes, or when
/// it exits or executes another program. What was to be taken out of a queue is the parent's. Frees no memory.
pub(crate) fn release_in_child() {
    CLOSER.release_after_fork(|closer| {
        for job in &mut closer.jobs {
            // Its socket is closed with its port.
            mem::forget((job.unread.take(), job.done.take()));
        }
        closer.held = closer.jobs.iter().map(|job| job.fds.len()).sum();
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
