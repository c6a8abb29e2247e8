//! A receiver opens whoever sits on its address, and takes it when it is free.

mod common;

use std::os::fd::AsFd;

use common::{Fork, PATIENCE, address, errno, port, socket, until};
use rustix::net::{bind, listen};
use sendfd_core::{Path, Paths, Port, Receiver, ReceiverOptions, SendOptions, Wait, send_with};
use sendfd_tests::{has, has_root, signal};

fn send_by(to: u32, paths: Paths) -> i32 {
    let options = SendOptions::new().paths(paths);
    errno(send_with(
        to,
        port(),
        &[std::io::stderr().as_fd()],
        &options,
    ))
}

/// A child with copies of all descriptors, in which no handlers of fork(2) have run. It outlives its parent.
fn raw_child() -> i32 {
    // SAFETY: the child does nothing, and is killed.
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        std::thread::sleep(2 * PATIENCE);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    child as i32
}

fn put_away(child: i32) {
    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// As between fork(2) and the handler in the child that closes what it inherited, for however long that takes.
#[test]
fn a_receiver_opens_again_though_a_child_has_the_old_ones_address() {
    Fork::run(|_| {
        let old = Receiver::open(port()).expect("a receiver");
        let child = raw_child();
        old.close();
        let receiver = Receiver::open(port()).expect("it opens all the same");
        let own = std::process::id();
        assert_eq!(send_by(own, Paths::PIDFD), 0);
        let came = receiver.recv(Wait::For(PATIENCE)).expect("a message");
        assert_eq!(came.path, Path::Pidfd);
        assert_ne!(send_by(own, Paths::NAME), 0);
        put_away(child);
        // It takes the address when it is free, by and by.
        until("it has the address", || {
            let _ = receiver.recv(Wait::Never);
            send_by(own, Paths::NAME) == 0
        });
        let came = receiver.recv(Wait::For(PATIENCE)).expect("a message");
        assert_eq!(came.path, Path::Name);
    })
    .ends_well();
}

/// A forked child under a pid of the test's choice, in which the library was not used yet.
fn fork_as(pid: u32) -> libc::c_long {
    #[repr(C)]
    struct Arguments {
        flags: u64,
        unused: [u64; 3],
        exit_signal: u64,
        unused_too: [u64; 3],
        set_tid: u64,
        set_tid_size: u64,
    }
    let wanted = [pid];
    let arguments = Arguments {
        flags: 0,
        unused: [0; 3],
        exit_signal: libc::SIGCHLD as u64,
        unused_too: [0; 3],
        set_tid: wanted.as_ptr() as u64,
        set_tid_size: 1,
    };
    // SAFETY: as fork(2) does it, by a process with one thread, in which nothing of the library's is open.
    unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<Arguments>(),
        )
    }
}

/// Runs `f` as the process of that pid. None: pids cannot be chosen here, or this one is in use.
fn run_as(pid: u32, f: impl FnOnce()) -> Option<i32> {
    match fork_as(pid) {
        0 => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: our own child; a valid pointer.
            unsafe { libc::waitpid(child as i32, &raw mut status, 0) };
            Some(status)
        }
        _ => None,
    }
}

/// A pid that nobody has.
fn free_pid() -> u32 {
    let most = std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("/proc");
    let most: u32 = most.trim().parse().expect("a number");
    let is_free = |pid: &u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    let start = most - 100 - std::process::id() % 1000;
    (1000..start).rev().find(is_free).expect("a free pid")
}

/// A dead process's child, or a helper of somebody else's that waits for a pid to come, holds the address.
#[test]
fn whoever_has_the_pid_next_opens_its_receiver() {
    if !has_root() {
        return;
    }
    for stranger in [false, true] {
        let pid = free_pid();
        let mut test = Fork::run(|line| {
            let before = run_as(pid, || {
                let listener;
                let receiver;
                if stranger {
                    line.become_user(1061);
                    listener = socket();
                    bind(&listener, &address(pid, signal(0), "")).expect("bound");
                    listen(&listener, 8).expect("listening");
                } else {
                    receiver = Receiver::open(port()).expect("a receiver");
                    std::mem::forget(receiver);
                }
                let child = raw_child();
                line.say(child.into());
            });
            line.say(i64::from(before.is_none()));
            if before != Some(0) {
                return line.say(0);
            }
            let after = run_as(pid, || {
                assert_eq!(std::process::id(), pid);
                let receiver = Receiver::open(port()).expect("it opens");
                assert_eq!(send_by(pid, Paths::PIDFD), 0);
                receiver.recv(Wait::For(PATIENCE)).expect("a message");
                assert_ne!(send_by(pid, Paths::NAME), 0, "it has no address");
                let next = Port::from_signal(signal(1)).expect("a port");
                Receiver::open(next).expect("the next signal is free");
            });
            assert_eq!(after, Some(0));
            line.say(0);
        });
        // The helper's pid comes first, if there is one.
        let first = test.hear();
        let helper = (first > 1).then_some(first as i32);
        let none = helper.map_or(first, |_| test.hear());
        let done = test.hear_or_not();
        if let Some(helper) = helper {
            // SAFETY: the child of a process that is gone.
            unsafe { libc::kill(helper, libc::SIGKILL) };
        }
        if has("a pid of one's choice", none == 0) {
            assert_eq!(done, Some(0));
            test.ends_well();
        }
    }
}

/// Of users named twice, each has one address, for which there is nothing to wait.
#[test]
fn a_user_may_be_named_twice() {
    let cost_of = |uids: &'static [u32]| {
        let mut test = Fork::run(|line| {
            let count = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
            let before = count();
            let options = ReceiverOptions::new().uids(uids);
            let receiver = Receiver::open_with(port(), &options).expect("a receiver");
            line.say((count() - before) as i64);
            drop(receiver);
            assert_eq!(count(), before);
        });
        let cost = test.hear();
        test.ends_well();
        cost
    };
    assert_eq!(cost_of(&[1062, 1062, 1063, 1062]), cost_of(&[1062, 1063]));
}
