//! What a send in a signal handler needs: so much of the signal stack, and no memory. One test, in a process of
//! its own, where every allocation is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use sendfd_core::{Path, Port, Receiver, SendOptions, Target, TargetOptions, Wait};

struct Counting;

thread_local! {
    /// Those of this thread.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's word.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: OnceLock<Target> = OnceLock::new();
static BY_NAME: OnceLock<Target> = OnceLock::new();
static ERRNO: AtomicI32 = AtomicI32::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

fn send_to(target: &OnceLock<Target>) {
    let before = ALLOCATIONS.get();
    let sent = target.get().map(|target| {
        let fds = [std::io::stderr()];
        target.send(&[fds[0].as_fd()], &SendOptions::new())
    });
    let errno = match sent {
        Some(Err(error)) => error.raw_os_error(),
        Some(Ok(())) => 0,
        None => -1,
    };
    let after = ALLOCATIONS.get();
    ERRNO.store(errno, Ordering::Relaxed);
    ALLOCATED.store(after - before, Ordering::Relaxed);
}

extern "C" fn nothing(_: i32) {}

extern "C" fn by_pidfd(_: i32) {
    send_to(&TARGET);
}

extern "C" fn by_name(_: i32) {
    send_to(&BY_NAME);
}

/// How much of a signal stack `handler` uses.
fn stack_of(handler: extern "C" fn(i32)) -> usize {
    const SIZE: usize = 256 * 1024;
    let mut stack = vec![0xA5_u8; SIZE];
    // SAFETY: the stack lives until it is given up again, and the handler runs in between, in this
    // thread.
    unsafe {
        let mut old = std::mem::zeroed();
        let new = libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: SIZE,
        };
        assert_eq!(libc::sigaltstack(&raw const new, &raw mut old), 0);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()),
            0
        );
        assert_eq!(libc::raise(libc::SIGUSR1), 0);
        assert_eq!(libc::sigaltstack(&raw const old, std::ptr::null_mut()), 0);
    }
    SIZE - stack.iter().take_while(|byte| **byte == 0xA5).count()
}

#[test]
fn a_send_in_a_handler_needs_little_stack_and_no_memory() {
    let port = Port::new(3).expect("a port");
    let open = |path: Path| {
        let options = TargetOptions::new().paths(path);
        Target::open_with(std::process::id(), port, &options).expect("a target")
    };
    let receiver = Receiver::open(port).expect("a receiver");
    TARGET.set(open(Path::Pidfd)).expect("once");
    BY_NAME.set(open(Path::Name)).expect("once");
    // What the kernel puts there differs from machine to machine.
    let frame = stack_of(nothing);
    let measure = |what: &str, handler, expected: i32| {
        let used = stack_of(handler) - frame.min(stack_of(nothing));
        let allocated = ALLOCATED.load(Ordering::Relaxed);
        println!("{what}: {used} bytes of stack, {allocated} allocations");
        assert_eq!(ERRNO.load(Ordering::Relaxed), expected, "{what}");
        (used, allocated)
    };
    let all = [
        measure("a send by pidfd", by_pidfd as extern "C" fn(i32), 0),
        measure("a send by name", by_name, 0),
    ];
    for _ in all {
        receiver.recv(Wait::Forever).expect("a message");
    }
    drop(receiver);
    let refused = [
        measure("refused by pidfd", by_pidfd, libc::ECONNREFUSED),
        measure("refused by name", by_name, libc::ECONNREFUSED),
    ];
    let receiver = Receiver::open(port).expect("a receiver");
    let reopened = [
        measure("reopened by pidfd", by_pidfd, 0),
        measure("reopened by name", by_name, 0),
    ];
    for _ in reopened {
        receiver.recv(Wait::Forever).expect("a message");
    }
    // As the documentation of `Target::send` says.
    for (used, allocated) in all {
        assert!(used <= 8 * 1024, "{used}");
        assert_eq!(allocated, 0);
    }
    for (used, allocated) in refused.into_iter().chain(reopened) {
        assert!(used <= 16 * 1024, "{used}");
        assert_eq!(allocated, 0);
    }
}
