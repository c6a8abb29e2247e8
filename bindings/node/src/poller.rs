//! Who watches a receiver's descriptor and calls JavaScript when it is readable.
//!
//! libuv does it where the runtime has a libuv loop (Node, Electron): no thread, and one step from
//! the kernel to JavaScript. Elsewhere (Bun, Deno) one thread for the whole process does it.

use std::os::fd::AsRawFd;

use napi::bindgen_prelude::Env;
use napi::{Result, sys};
use napi_derive::napi;

use crate::sys::{thread, uv};

/// The two of them.
pub(crate) enum Poller {
    Uv(uv::Poller),
    Thread(thread::Poller),
}

impl Poller {
    /// Prepares to watch `fd`, which outlives this.
    pub(crate) fn open(env: sys::napi_env, fd: &impl AsRawFd, uv: bool) -> Result<Self> {
        let fd = fd.as_raw_fd();
        if uv && let Some(poller) = uv::Poller::open(env, fd)? {
            return Ok(Poller::Uv(poller));
        }
        thread::Poller::open(env, fd).map(Poller::Thread)
    }

    pub(crate) fn start(&self, env: sys::napi_env, ready: sys::napi_value) -> Result<()> {
        match self {
            Poller::Uv(poller) => poller.start(env, ready),
            Poller::Thread(poller) => poller.start(env, ready),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Poller::Uv(poller) => poller.stop(),
            Poller::Thread(poller) => poller.stop(),
        }
    }

    pub(crate) fn keep_alive(&self, env: sys::napi_env, keep: bool) {
        match self {
            Poller::Uv(poller) => poller.keep_alive(keep),
            Poller::Thread(poller) => poller.keep_alive(env, keep),
        }
    }
}

/// Whether closing the server that listens on `fd`, at `path`, can be made to remove nothing. With
/// `from_now_on` it is made so.
#[napi]
pub fn keep_path(env: Env, fd: i32, path: String, from_now_on: bool) -> Result<bool> {
    uv::forget_path(env.raw(), fd, &path, from_now_on)
}
