//! A lock of one word, which says whose it is. fork(2) can take it in any state: also in a signal
//! handler that interrupted the very thread that holds it.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Mutual exclusion between the threads of this process. Not recursive.
pub(crate) struct Lock<T> {
    /// 0, or the thread that holds it, by the address that pthread_self(3) gives; the lowest bit is
    /// set where others wait.
    word: AtomicUsize,
    /// Whether the thread holds it because it forks.
    for_fork: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: whoever has a `Guard` has the value to itself, as with a Mutex.
unsafe impl<T: Send> Sync for Lock<T> {}

const WAITED_FOR: usize = 1;

/// How often a thread looks whether the lock is free before it sleeps.
const SPINS: u32 = 100;

#[inline]
fn own_thread() -> usize {
    // SAFETY: the call takes nothing and cannot fail. (What it answers is even: the address of an aligned
    // structure.)
    unsafe { libc::pthread_self() as usize }
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock {
            word: AtomicUsize::new(0),
            for_fork: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// A thread that panics while it holds a lock leaves the value as it is: every change to what is
    /// locked here is one assignment.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.acquire(own_thread());
        Guard {
            lock: self,
            value: PhantomData,
        }
    }

    #[inline]
    fn acquire(&self, own: usize) {
        let free = self
            .word
            .compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed);
        if free.is_err() {
            self.wait(own);
        }
    }

    #[cold]
    fn wait(&self, own: usize) {
        let mut spins = SPINS;
        // From the first sleep on, others may sleep too.
        let mut wanted = own;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word == 0 {
                let free =
                    self.word
                        .compare_exchange(0, wanted, Ordering::Acquire, Ordering::Relaxed);
                if free.is_ok() {
                    return;
                }
            } else if spins > 0 {
                spins -= 1;
                std::hint::spin_loop();
            } else if word & WAITED_FOR == 0 {
                let _ = self.word.compare_exchange(
                    word,
                    word | WAITED_FOR,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            } else {
                self.futex(libc::FUTEX_WAIT, word as u32);
                wanted = own | WAITED_FOR;
            }
        }
    }

    #[inline]
    fn release(&self) {
        if self.word.swap(0, Ordering::Release) & WAITED_FOR != 0 {
            self.futex(libc::FUTEX_WAKE, 1);
        }
    }

    /// Futexes have 32 bits: the low half of the word, where the bit is that changes.
    ///
    /// # References
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
    #[cold]
    fn futex(&self, operation: i32, value: u32) {
        let halves = size_of::<usize>() / 4;
        let low = if cfg!(target_endian = "big") {
            halves - 1
        } else {
            0
        };
        // SAFETY: `low` is a half of the word, which lives as long as `self`; the kernel only reads
        // it. That it fails or wakes too early does no harm: the caller looks again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word.as_ptr().cast::<u32>().add(low),
                operation | libc::FUTEX_PRIVATE_FLAG,
                value,
                ptr::null::<libc::timespec>(),
            )
        };
    }

    /// Before fork(2): takes the lock, unless this thread has it already, which is so in a signal
    /// handler that interrupted what holds it.
    pub(crate) fn hold_for_fork(&self) {
        let own = own_thread();
        if self.word.load(Ordering::Relaxed) & !WAITED_FOR != own {
            self.acquire(own);
            self.for_fork.store(true, Ordering::Relaxed);
        }
    }

    /// After fork(2), in the parent and in the child: lets go of it if [`Lock::hold_for_fork`] took it,
    /// having called `f` with the value.
    pub(crate) fn release_after_fork(&self, f: impl FnOnce(&mut T)) -> AfterFork {
        if self.word.load(Ordering::Relaxed) & !WAITED_FOR != own_thread() {
            return AfterFork::Free;
        }
        if !self.for_fork.swap(false, Ordering::Relaxed) {
            return AfterFork::InUse;
        }
        // SAFETY: taken in `hold_for_fork` by this thread, which has no `Guard`.
        f(unsafe { &mut *self.value.get() });
        self.release();
        AfterFork::Free
    }
}

/// Something that happens once, and that a thread may wait for. A child that is forked meanwhile waits
/// for nothing longer than its time, and needs no memory of the parent's threads for that.
#[derive(Debug)]
pub(crate) struct Event(AtomicU32);

impl Event {
    pub(crate) const fn new() -> Self {
        Event(AtomicU32::new(0))
    }

    /// It has happened.
    pub(crate) fn set(&self) {
        self.0.store(1, Ordering::Release);
        // SAFETY: the word lives as long as `self`; the kernel does not even read it.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.0.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            )
        };
    }

    pub(crate) fn has_happened(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Waits until it has happened, for `time` at most. Whether it has.
    ///
    /// # References
    /// - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.has_happened() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let left = libc::timespec {
                tv_sec: left.as_secs() as _,
                tv_nsec: left.subsec_nanos() as _,
            };
            // SAFETY: the word and the time live longer than the call, which only reads them. Why it
            // returned is seen by looking again.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    0,
                    &raw const left,
                )
            };
        }
        true
    }
}

/// In which state a [`Lock`] is after fork(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFork {
    /// This thread does not have it.
    Free,
    /// What this thread was doing when the signal came that it forks in goes on with it.
    InUse,
}

impl<T> std::fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

/// The value of a [`Lock`], which is let go of with this.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    /// So that it may be shared between threads only where the value may.
    value: PhantomData<&'a mut T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this is the one guard.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time() {
        let lock = Lock::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20_000).for_each(|_| *lock.lock() += 1));
            }
        });
        assert_eq!(*lock.lock(), 80_000);
    }

    #[test]
    fn an_event_is_waited_for_until_it_happens() {
        let (event, never) = (Event::new(), Event::new());
        std::thread::scope(|scope| {
            scope.spawn(|| event.set());
            assert!(event.wait(Duration::from_secs(1000)));
        });
        assert!(event.wait(Duration::ZERO));
        assert!(!never.wait(Duration::from_millis(1)));
    }

    #[test]
    fn a_fork_takes_what_is_free_and_leaves_what_its_own_thread_has() {
        let lock = Lock::new(1);
        lock.hold_for_fork();
        let mut calls = 0;
        for _ in 0..2 {
            let after = lock.release_after_fork(|_| calls += 1);
            assert_eq!((after, calls), (AfterFork::Free, 1));
        }
        let guard = lock.lock();
        lock.hold_for_fork();
        let after = lock.release_after_fork(|_| panic!("it is not the handler's"));
        assert_eq!(after, AfterFork::InUse);
        assert_eq!(*guard, 1);
    }
}
