//! libuv watches: a uv_poll_t on the environment's own loop.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;

use napi::{Result, sys};

use super::check;

/// From uv.h, whose ABI is the same for all of libuv 1.
const UV_NAMED_PIPE: c_int = 7;
const UV_POLL: c_int = 8;
const UV_READABLE: c_int = 1;

type Handle = *mut c_void;

/// The functions that the runtime exports, where it is built on libuv.
struct Library {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    set_data: unsafe extern "C" fn(Handle, *mut c_void),
    get_data: unsafe extern "C" fn(Handle) -> *mut c_void,
    init: unsafe extern "C" fn(*mut sys::uv_loop_s, Handle, c_int) -> c_int,
    start: unsafe extern "C" fn(Handle, c_int, unsafe extern "C" fn(Handle, c_int, c_int)) -> c_int,
    stop: unsafe extern "C" fn(Handle) -> c_int,
    reference: unsafe extern "C" fn(Handle),
    unreference: unsafe extern "C" fn(Handle),
    close: unsafe extern "C" fn(Handle, unsafe extern "C" fn(Handle)),
    walk: unsafe extern "C" fn(*mut sys::uv_loop_s, unsafe extern "C" fn(Handle, Handle), Handle),
    get_type: unsafe extern "C" fn(Handle) -> c_int,
    fileno: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
}

impl Library {
    fn get() -> Option<&'static Library> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        LIBRARY.get_or_init(Library::find).as_ref()
    }

    /// Found by name, so that the addon also loads where they do not exist.
    fn find() -> Option<Library> {
        // SAFETY: the types are those of uv.h.
        unsafe {
            Some(Library {
                handle_size: symbol(c"uv_handle_size")?,
                set_data: symbol(c"uv_handle_set_data")?,
                get_data: symbol(c"uv_handle_get_data")?,
                init: symbol(c"uv_poll_init")?,
                start: symbol(c"uv_poll_start")?,
                stop: symbol(c"uv_poll_stop")?,
                reference: symbol(c"uv_ref")?,
                unreference: symbol(c"uv_unref")?,
                close: symbol(c"uv_close")?,
                walk: symbol(c"uv_walk")?,
                get_type: symbol(c"uv_handle_get_type")?,
                fileno: symbol(c"uv_fileno")?,
            })
        }
    }
}

/// # Safety
/// `F` must be the type of the function that has this name.
unsafe fn symbol<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: the name ends in a zero; dlsym only looks.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: not null, and of type `F` as the caller promises.
    (!address.is_null()).then(|| unsafe { mem::transmute_copy(&address) })
}

/// Watches one descriptor. Dropping it stops that at once; libuv gives the memory back later.
pub(crate) struct Poller(Rc<State>);

/// Shared with libuv, which owns one count of it until the handle is closed.
struct State {
    uv: &'static Library,
    env: sys::napi_env,
    handle: Handle,
    /// The memory behind `handle`; libuv says how much it needs.
    _memory: Box<[Cell<u64>]>,
    /// What is called; null while stopped.
    ready: Cell<sys::napi_ref>,
    context: sys::napi_async_context,
    hook: Cell<sys::napi_async_cleanup_hook_handle>,
    closing: Cell<bool>,
}

impl Poller {
    /// `None` where the runtime has no libuv loop.
    pub(crate) fn open(env: sys::napi_env, fd: RawFd) -> Result<Option<Self>> {
        let Some(uv) = Library::get() else {
            return Ok(None);
        };
        let mut event_loop = ptr::null_mut();
        // SAFETY: `env` is the environment of the call that we are in.
        let status = unsafe { sys::napi_get_uv_event_loop(env, &raw mut event_loop) };
        if status != sys::Status::napi_ok || event_loop.is_null() {
            return Ok(None);
        }
        // SAFETY: a pure function.
        let size = unsafe { (uv.handle_size)(UV_POLL) };
        let memory = vec![Cell::new(0); size.div_ceil(size_of::<u64>())].into_boxed_slice();
        let handle = memory.as_ptr().cast_mut().cast();
        let context = async_context(env)?;
        // SAFETY: the memory is as large as libuv wants, and stays where it is until the handle is
        // closed: `State` owns it, and libuv a count of that.
        if unsafe { (uv.init)(event_loop, handle, fd) } != 0 {
            // SAFETY: made above.
            unsafe { sys::napi_async_destroy(env, context) };
            return Ok(None);
        }
        let state = Rc::new(State {
            uv,
            env,
            handle,
            _memory: memory,
            ready: Cell::new(ptr::null_mut()),
            context,
            hook: Cell::new(ptr::null_mut()),
            closing: Cell::new(false),
        });
        let shared = Rc::into_raw(Rc::clone(&state)).cast_mut().cast::<c_void>();
        let mut hook = ptr::null_mut();
        // SAFETY: `shared` is alive until `closed`, which also removes the hook.
        let status = unsafe {
            (uv.set_data)(handle, shared);
            sys::napi_add_async_cleanup_hook(env, Some(environment_ends), shared, &raw mut hook)
        };
        state.hook.set(hook);
        let poller = Poller(state);
        check(status, "cannot have the receiver closed with its thread")?;
        Ok(Some(poller))
    }

    pub(crate) fn start(&self, env: sys::napi_env, ready: sys::napi_value) -> Result<()> {
        let state = &self.0;
        state.forget_callback();
        let mut reference = ptr::null_mut();
        // SAFETY: `ready` is a function of this call.
        let status = unsafe { sys::napi_create_reference(env, ready, 1, &raw mut reference) };
        check(status, "cannot keep the callback")?;
        state.ready.set(reference);
        // SAFETY: an open handle of this thread's loop.
        unsafe { (state.uv.start)(state.handle, UV_READABLE, readable) };
        Ok(())
    }

    pub(crate) fn stop(&self) {
        if !self.0.closing.get() {
            // SAFETY: an open handle of this thread's loop.
            unsafe { (self.0.uv.stop)(self.0.handle) };
            self.0.forget_callback();
        }
    }

    pub(crate) fn keep_alive(&self, keep: bool) {
        let uv = self.0.uv;
        let set = if keep { uv.reference } else { uv.unreference };
        if !self.0.closing.get() {
            // SAFETY: an open handle of this thread's loop.
            unsafe { set(self.0.handle) };
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl State {
    fn close(&self) {
        if self.closing.replace(true) {
            return;
        }
        self.forget_callback();
        // SAFETY: open until now. libuv forgets the descriptor before this returns; `closed` is
        // called from the loop.
        unsafe {
            sys::napi_async_destroy(self.env, self.context);
            (self.uv.close)(self.handle, closed);
        }
    }

    fn forget_callback(&self) {
        let reference = self.ready.replace(ptr::null_mut());
        if !reference.is_null() {
            // SAFETY: made in `start`, and deleted once.
            unsafe { sys::napi_delete_reference(self.env, reference) };
        }
    }

    /// Calls JavaScript as the runtime does for its own events: microtasks run afterwards, and what
    /// is thrown is an uncaught exception.
    fn call(&self) {
        let env = self.env;
        let mut scope = ptr::null_mut();
        // SAFETY: this is the loop's thread and no JavaScript is running; what is made here lives
        // in the scope.
        unsafe {
            if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
                return;
            }
            let (mut ready, mut receiver, mut result) =
                (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            sys::napi_get_reference_value(env, self.ready.get(), &raw mut ready);
            sys::napi_get_global(env, &raw mut receiver);
            let status = sys::napi_make_callback(
                env,
                self.context,
                receiver,
                ready,
                0,
                ptr::null(),
                &raw mut result,
            );
            super::throw_uncaught(env, status);
            sys::napi_close_handle_scope(env, scope);
        }
    }
}

fn async_context(env: sys::napi_env) -> Result<sys::napi_async_context> {
    let (mut name, mut context) = (ptr::null_mut(), ptr::null_mut());
    let text = c"SENDFD_RECEIVER";
    // SAFETY: both out-parameters are written before they are read.
    let status = unsafe {
        sys::napi_create_string_utf8(
            env,
            text.as_ptr(),
            text.count_bytes().cast_signed(),
            &raw mut name,
        );
        sys::napi_async_init(env, ptr::null_mut(), name, &raw mut context)
    };
    check(status, "cannot make an asynchronous context")?;
    Ok(context)
}

unsafe extern "C" fn readable(handle: Handle, _status: c_int, _events: c_int) {
    // A status other than 0 (the descriptor was closed under libuv) shows itself on receiving.
    let Some(uv) = Library::get() else { return };
    // SAFETY: `open` put a counted pointer there, which `closed` takes back.
    let state = unsafe {
        let shared = (uv.get_data)(handle).cast::<State>().cast_const();
        Rc::increment_strong_count(shared);
        Rc::from_raw(shared)
    };
    state.call();
}

unsafe extern "C" fn environment_ends(
    _hook: sys::napi_async_cleanup_hook_handle,
    shared: *mut c_void,
) {
    // SAFETY: as in `readable`. The count is only borrowed.
    let state = unsafe { &*shared.cast::<State>() };
    state.close();
}

unsafe extern "C" fn closed(handle: Handle) {
    let Some(uv) = Library::get() else { return };
    // SAFETY: the count that `open` gave away comes back, once.
    unsafe {
        let state = Rc::from_raw((uv.get_data)(handle).cast::<State>().cast_const());
        let hook = state.hook.get();
        if !hook.is_null() {
            sys::napi_remove_async_cleanup_hook(hook);
        }
    }
}

/// Whether libuv can be made to forget the path that the server on descriptor `fd` is bound to, so
/// that closing it removes nothing; with `forget` it is.
///
/// libuv keeps the path in the last field of a `uv_pipe_t` (`pipe_fname`), and removes what it names
/// in `uv_close`. No function of it takes the field back. So it is looked at without trust: unless
/// it holds the address of exactly this path, nothing is written.
pub(crate) fn forget_path(env: sys::napi_env, fd: RawFd, path: &str, forget: bool) -> Result<bool> {
    struct Wanted {
        uv: &'static Library,
        fd: RawFd,
        found: Handle,
    }

    unsafe extern "C" fn look(handle: Handle, wanted: Handle) {
        // SAFETY: `walk` hands on what it was given, below, and nobody else has it.
        let wanted = unsafe { &mut *wanted.cast::<Wanted>() };
        let mut fd = -1;
        // SAFETY: an open handle of the loop that is walked through.
        unsafe {
            if (wanted.uv.get_type)(handle) == UV_NAMED_PIPE
                && (wanted.uv.fileno)(handle, &raw mut fd) == 0
                && fd == wanted.fd
            {
                wanted.found = handle;
            }
        }
    }

    let Some(uv) = Library::get() else {
        return Ok(false);
    };
    let found = ptr::null_mut();
    let mut wanted = Wanted { uv, fd, found };
    let mut event_loop = ptr::null_mut();
    // SAFETY: `env` is that of the call that we are in, on its loop's thread.
    unsafe {
        let status = sys::napi_get_uv_event_loop(env, &raw mut event_loop);
        check(status, "cannot find the event loop")?;
        (uv.walk)(event_loop, look, (&raw mut wanted).cast());
    }
    if wanted.found.is_null() {
        return Ok(false);
    }
    // SAFETY: a pure function.
    let size = unsafe { (uv.handle_size)(UV_NAMED_PIPE) };
    // SAFETY: inside of the handle, which is that large and aligned as pointers are.
    let field = unsafe {
        wanted
            .found
            .byte_add(size - size_of::<*mut c_void>())
            .cast::<*const u8>()
    };
    // SAFETY: as above.
    let name = unsafe { field.read() };
    if name.is_null() {
        return Ok(true);
    }
    let Some(text) = bytes_at(name, path.len() + 1) else {
        return Ok(false);
    };
    let same = text.split_last() == Some((&0, path.as_bytes()));
    if same && forget {
        // SAFETY: it is the field. libuv takes null for no path; the few bytes are not given back,
        // as the allocator is libuv's own.
        unsafe { field.write(ptr::null()) };
    }
    Ok(same)
}

/// The bytes at an address that may be none: the kernel looks, and says so if nothing is there.
fn bytes_at(address: *const u8, length: usize) -> Option<Vec<u8>> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    // SAFETY: the kernel answers EFAULT for what cannot be read. A path fits into a pipe.
    let written = unsafe { libc::write(writer.as_raw_fd(), address.cast(), length) };
    if usize::try_from(written) != Ok(length) {
        return None;
    }
    let mut bytes = vec![0; length];
    (rustix::io::read(&reader, &mut bytes) == Ok(length)).then_some(bytes)
}
