//! A thread watches, one for the whole process, and calls over through a threadsafe function.
//!
//! Each descriptor is watched for one event at a time: JavaScript has to have been called for it
//! before it is watched again, so that no more than one call for each is ever under way.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use napi::{Error, Result, Status, sys};

use super::{check, throw_uncaught, with_signals_blocked};

/// The thread's epoll instance, and whom to call.
struct Watcher {
    epoll: OwnedFd,
    functions: Mutex<HashMap<u64, Function>>,
}

struct Function(sys::napi_threadsafe_function);

// SAFETY: calling it from other threads is what it is for.
unsafe impl Send for Function {}

impl Watcher {
    /// The thread runs from the first use on, until the process ends.
    fn get() -> Result<&'static Watcher> {
        static WATCHER: OnceLock<Watcher> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());

        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = WATCHER.get() {
            return Ok(watcher);
        }
        // SAFETY: takes no pointer.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(last_error("cannot make an epoll instance"));
        }
        let watcher = WATCHER.get_or_init(|| Watcher {
            // SAFETY: just made.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            functions: Mutex::default(),
        });
        with_signals_blocked(|| {
            std::thread::Builder::new()
                .name("sendfd-watch".into())
                .stack_size(64 * 1024)
                .spawn(|| watcher.run())
        })
        .map_err(|error| Error::from_reason(error.to_string()))?;
        Ok(watcher)
    }

    fn run(&self) {
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; 16];
        loop {
            // SAFETY: there is room for 16 events.
            let count = unsafe {
                libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr().cast(), 16, -1)
            };
            for event in &events[..usize::try_from(count).unwrap_or(0)] {
                // SAFETY: the kernel wrote the first `count`.
                let id = unsafe { event.assume_init_ref() }.u64;
                // Held during the call: what is in the table is not released meanwhile.
                if let Some(function) = self.functions().get(&id) {
                    // SAFETY: not released yet, and the queue has no limit.
                    unsafe {
                        sys::napi_call_threadsafe_function(
                            function.0,
                            ptr::null_mut(),
                            sys::ThreadsafeFunctionCallMode::nonblocking,
                        )
                    };
                }
            }
        }
    }

    fn functions(&self) -> MutexGuard<'_, HashMap<u64, Function>> {
        self.functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self, operation: i32, fd: RawFd, id: u64, events: i32) -> i32 {
        let mut event = libc::epoll_event {
            events: (events | libc::EPOLLONESHOT).cast_unsigned(),
            u64: id,
        };
        // SAFETY: the event is only read.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) }
    }
}

/// Watches one descriptor. Dropping it stops that at once.
pub(crate) struct Poller(Rc<State>);

/// Shared with the threadsafe function, which owns one count of it.
struct State {
    watcher: &'static Watcher,
    env: sys::napi_env,
    fd: RawFd,
    id: u64,
    function: sys::napi_threadsafe_function,
    /// What is called; null while stopped.
    ready: Cell<sys::napi_ref>,
    keeps_alive: Cell<bool>,
    closed: Cell<bool>,
}

impl Poller {
    pub(crate) fn open(env: sys::napi_env, fd: RawFd) -> Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);

        let watcher = Watcher::get()?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        if watcher.control(libc::EPOLL_CTL_ADD, fd, id, 0) < 0 {
            return Err(last_error("cannot watch the receiver"));
        }
        let state = Rc::new_cyclic(|weak: &std::rc::Weak<State>| State {
            watcher,
            env,
            fd,
            id,
            function: threadsafe_function(env, weak.as_ptr()),
            ready: Cell::new(ptr::null_mut()),
            keeps_alive: Cell::new(true),
            closed: Cell::new(false),
        });
        if state.function.is_null() {
            watcher.control(libc::EPOLL_CTL_DEL, fd, id, 0);
            return Err(Error::new(
                Status::GenericFailure,
                "cannot make a threadsafe function",
            ));
        }
        watcher.functions().insert(id, Function(state.function));
        // The count is the threadsafe function's, and comes back in `finalize`.
        let shared = Rc::into_raw(Rc::clone(&state)).cast_mut().cast();
        let poller = Poller(state);
        // SAFETY: removed in `close`, which comes before `finalize`.
        let status = unsafe {
            sys::napi_unref_threadsafe_function(env, poller.0.function);
            sys::napi_add_env_cleanup_hook(env, Some(environment_ends), shared)
        };
        check(status, "cannot have the receiver closed with its thread")?;
        Ok(poller)
    }

    pub(crate) fn start(&self, env: sys::napi_env, ready: sys::napi_value) -> Result<()> {
        let state = &self.0;
        state.forget_callback();
        let mut reference = ptr::null_mut();
        // SAFETY: `ready` is a function of this call.
        let status = unsafe { sys::napi_create_reference(env, ready, 1, &raw mut reference) };
        check(status, "cannot keep the callback")?;
        state.ready.set(reference);
        self.keep_alive(env, state.keeps_alive.get());
        state.watch();
        Ok(())
    }

    pub(crate) fn stop(&self) {
        let state = &self.0;
        if !state.closed.get() {
            state.forget_callback();
            state
                .watcher
                .control(libc::EPOLL_CTL_MOD, state.fd, state.id, 0);
            // SAFETY: not released yet.
            unsafe { sys::napi_unref_threadsafe_function(state.env, state.function) };
        }
    }

    pub(crate) fn keep_alive(&self, env: sys::napi_env, keep: bool) {
        let state = &self.0;
        state.keeps_alive.set(keep);
        if state.closed.get() || state.ready.get().is_null() {
            return;
        }
        let set = if keep {
            sys::napi_ref_threadsafe_function
        } else {
            sys::napi_unref_threadsafe_function
        };
        // SAFETY: not released yet.
        unsafe { set(env, state.function) };
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let shared = Rc::as_ptr(&self.0).cast_mut().cast();
        if !self.0.closed.get() {
            // SAFETY: added in `open`.
            unsafe {
                sys::napi_remove_env_cleanup_hook(self.0.env, Some(environment_ends), shared)
            };
        }
        self.0.close();
    }
}

impl State {
    fn watch(&self) {
        self.watcher
            .control(libc::EPOLL_CTL_MOD, self.fd, self.id, libc::EPOLLIN);
    }

    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        self.forget_callback();
        self.watcher.functions().remove(&self.id);
        self.watcher
            .control(libc::EPOLL_CTL_DEL, self.fd, self.id, 0);
        // SAFETY: the last use; the thread no longer finds it.
        unsafe {
            sys::napi_release_threadsafe_function(
                self.function,
                sys::ThreadsafeFunctionReleaseMode::abort,
            )
        };
    }

    fn forget_callback(&self) {
        let reference = self.ready.replace(ptr::null_mut());
        if !reference.is_null() {
            // SAFETY: made in `start`, and deleted once.
            unsafe { sys::napi_delete_reference(self.env, reference) };
        }
    }
}

fn threadsafe_function(env: sys::napi_env, state: *const State) -> sys::napi_threadsafe_function {
    let (mut name, mut function) = (ptr::null_mut(), ptr::null_mut());
    let text = c"SENDFD_RECEIVER";
    // SAFETY: `state` is used only by `call`, when it has been made, and taken back by `finalize`.
    unsafe {
        sys::napi_create_string_utf8(
            env,
            text.as_ptr(),
            text.count_bytes().cast_signed(),
            &raw mut name,
        );
        sys::napi_create_threadsafe_function(
            env,
            ptr::null_mut(),
            ptr::null_mut(),
            name,
            0,
            1,
            state.cast_mut().cast(),
            Some(finalize),
            state.cast_mut().cast(),
            Some(call),
            &raw mut function,
        );
    }
    function
}

unsafe extern "C" fn call(
    env: sys::napi_env,
    _function: sys::napi_value,
    state: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() {
        // Called for the last time, while the environment ends.
        return;
    }
    // SAFETY: the count behind it comes back in `finalize`, later. Another is held meanwhile: the
    // callback may close the receiver.
    let state = unsafe {
        let state = state.cast::<State>().cast_const();
        Rc::increment_strong_count(state);
        Rc::from_raw(state)
    };
    if state.ready.get().is_null() {
        return;
    }
    let (mut ready, mut receiver, mut result) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: on the environment's thread, in a scope that the runtime opened.
    unsafe {
        sys::napi_get_reference_value(env, state.ready.get(), &raw mut ready);
        sys::napi_get_global(env, &raw mut receiver);
        let status = sys::napi_call_function(env, receiver, ready, 0, ptr::null(), &raw mut result);
        throw_uncaught(env, status);
    }
    if !state.ready.get().is_null() {
        state.watch();
    }
}

unsafe extern "C" fn finalize(_env: sys::napi_env, state: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the count that `open` gave away.
    drop(unsafe { Rc::from_raw(state.cast::<State>().cast_const()) });
}

unsafe extern "C" fn environment_ends(state: *mut c_void) {
    // SAFETY: alive until `finalize`, which comes later.
    unsafe { &*state.cast::<State>() }.close();
}

fn last_error(what: &str) -> Error {
    Error::from_reason(format!("{what}: {}", std::io::Error::last_os_error()))
}
