//! Telling a process from its forked children, also from those that a raw clone(2) made, which runs
//! no handlers.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A page that the kernel empties in a child. Null before the first use, `UNSUPPORTED` where the
/// kernel has no such pages (before Linux 4.14).
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

static UNSUPPORTED: AtomicU32 = AtomicU32::new(0);

/// How many generations there were up to this process. A child goes on counting from its parent's.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A number that is the same as long as this process lives, and another in each forked child: what was
/// noted under another number is the parent's. Never 0. No system call, but for the first time.
///
/// A child that shares its parent's memory (vfork) shares this too.
///
/// # References
/// - [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html), `MADV_WIPEONFORK`
#[inline]
pub(crate) fn generation() -> u32 {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return first();
    }
    // SAFETY: not null, so a page that is never unmapped, or the static above.
    let noted = unsafe { &*page };
    match noted.load(Ordering::Relaxed) {
        0 => of_child(noted),
        number => number,
    }
}

#[cold]
fn first() -> u32 {
    let page = map().unwrap_or((&raw const UNSUPPORTED).cast_mut());
    let known = PAGE.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Acquire);
    if known.is_ok() {
        // If it cannot be had, a child asks when it needs to know.
        // SAFETY: a function without arguments that lives as long as the process: the library is linked so
        // that it is never unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
    if known.is_err() && !ptr::eq(page, &raw const UNSUPPORTED) {
        // SAFETY: mapped above, and nobody else knows of it.
        unsafe { libc::munmap(page.cast(), 4096) };
    }
    generation()
}

/// The generation in the upper half, the pid in the lower.
static PID: AtomicU64 = AtomicU64::new(0);

/// This process's pid, without a system call.
#[inline]
pub(crate) fn own_pid() -> u32 {
    let known = PID.load(Ordering::Relaxed);
    let generation = generation();
    if (known >> 32) as u32 == generation {
        known as u32
    } else {
        ask_for_pid(generation)
    }
}

#[cold]
fn ask_for_pid(generation: u32) -> u32 {
    let pid = std::process::id();
    let known = u64::from(generation) << 32 | u64::from(pid);
    PID.store(known, Ordering::Relaxed);
    pid
}

/// fork(2) calls it in the child, whose first send is then one system call as all others are.
extern "C" fn in_child() {
    own_pid();
}

#[cold]
fn of_child(noted: &AtomicU32) -> u32 {
    if ptr::eq(noted, &raw const UNSUPPORTED) {
        return std::process::id();
    }
    let next = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    match noted.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(other_threads) => other_threads,
    }
}

fn map() -> Option<*mut AtomicU32> {
    // SAFETY: a new mapping, of which nothing is known elsewhere; unmapped again if the kernel will not
    // empty it in children.
    unsafe {
        let page = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return None;
        }
        if libc::madvise(page, 4096, libc::MADV_WIPEONFORK) != 0 {
            libc::munmap(page, 4096);
            return None;
        }
        Some(page.cast())
    }
}

/// A value that each process has for itself: a child starts with a new one.
pub(crate) struct PerProcess<T: 'static> {
    current: AtomicPtr<Owned<T>>,
}

struct Owned<T> {
    generation: u32,
    value: T,
}

impl<T: Default + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess {
            current: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// This process's value. In a child, `leave` is called once with the one inherited, which is then
    /// never touched again: a thread that the child does not have may have been changing it.
    pub(crate) fn get(&self, leave: impl FnOnce(&T)) -> &'static T {
        let generation = generation();
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: what is stored here came from a Box that is never freed.
        let known: Option<&'static Owned<T>> = unsafe { current.as_ref() };
        if let Some(known) = known.filter(|known| known.generation == generation) {
            return &known.value;
        }
        let new = Box::into_raw(Box::new(Owned {
            generation,
            value: T::default(),
        }));
        match self
            .current
            .compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                if let Some(inherited) = known {
                    leave(&inherited.value);
                }
                // SAFETY: `new` came from a Box and is never freed, now that it is stored.
                unsafe { &(*new).value }
            }
            Err(other_threads) => {
                // SAFETY: nobody else knows of `new`; the other is never freed.
                unsafe {
                    drop(Box::from_raw(new));
                    &(*other_threads).value
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Runs `f` in a child and answers with what status it ended.
    fn run_in_child(clone: bool, f: impl FnOnce() -> bool) -> i32 {
        let mut status = 0;
        // SAFETY: the child calls only what needs no lock of another thread, and ends at once.
        unsafe {
            let pid = if clone {
                libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as i32
            } else {
                libc::fork()
            };
            if pid == 0 {
                libc::_exit(i32::from(!f()));
            }
            libc::waitpid(pid, &raw mut status, 0);
        }
        status
    }

    #[test]
    fn every_child_is_another_generation() {
        let own = generation();
        assert_ne!(own, 0);
        for clone in [false, true] {
            let differs = || {
                let pid = std::process::id();
                generation() != own && generation() != 0 && own_pid() == pid
            };
            assert_eq!(run_in_child(clone, differs), 0);
            assert_eq!(own_pid(), std::process::id());
            assert_eq!(generation(), own);
        }
    }

    #[test]
    fn a_child_has_a_value_of_its_own() {
        static VALUE: PerProcess<Mutex<u32>> = PerProcess::new();
        *VALUE.get(|_| ()).lock().expect("not poisoned") = 7;
        // Held by a thread that the child does not have.
        let held = VALUE.get(|_| ()).lock();
        let mut left = false;
        let status = run_in_child(true, || {
            let own = VALUE.get(|inherited| left = inherited.try_lock().is_err());
            left && own.try_lock().is_ok_and(|value| *value == 0)
        });
        assert_eq!(status, 0);
        drop(held);
        assert_eq!(*VALUE.get(|_| ()).lock().expect("not poisoned"), 7);
    }
}
