//! Every system call that the library makes, made to fail once at each place with each errno of its
//! manual. What comes out has to be an error of the table, or success by another way; no descriptor
//! may be left, and the same must work when it is tried again.
//!
//! A run is a child process whose system calls wait for this one (seccomp user notification).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use libc::c_long;
use sendfd_core::{Path, Port, Receiver, SendOptions, Wait, listen, probe, send_with, unlisten};
use sendfd_tests::Peer;

/// The calls, and with what each may fail.
const CALLS: &[(&str, c_long, &[i32])] = {
    use libc::*;
    &[
        (
            "pidfd_open",
            SYS_pidfd_open,
            &[EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM, ESRCH],
        ),
        (
            "pidfd_getfd",
            SYS_pidfd_getfd,
            &[EBADF, EMFILE, ENFILE, ENOSYS, EPERM, ESRCH],
        ),
        (
            "socket",
            SYS_socket,
            &[EACCES, EMFILE, ENFILE, ENOBUFS, ENOMEM],
        ),
        ("socketpair", SYS_socketpair, &[EMFILE, ENFILE, ENOMEM]),
        ("bind", SYS_bind, &[EACCES, EADDRINUSE, ENOMEM]),
        ("listen", SYS_listen, &[EADDRINUSE]),
        (
            "connect",
            SYS_connect,
            &[EACCES, EAGAIN, ECONNREFUSED, EINTR, EPERM],
        ),
        (
            "accept4",
            SYS_accept4,
            &[ECONNABORTED, EINTR, EMFILE, ENFILE, ENOMEM],
        ),
        (
            "sendmsg",
            SYS_sendmsg,
            &[EAGAIN, ECONNRESET, ENOBUFS, ENOMEM, EPIPE, ETOOMANYREFS],
        ),
        (
            "recvmsg",
            SYS_recvmsg,
            &[EAGAIN, ECONNREFUSED, EINTR, ENOMEM],
        ),
        ("recvmmsg", SYS_recvmmsg, &[EAGAIN, EINTR, ENOMEM, ENOSYS]),
        ("getsockopt", SYS_getsockopt, &[EINVAL, ENOPROTOOPT]),
        ("setsockopt", SYS_setsockopt, &[ENOPROTOOPT, ENOMEM]),
        ("getpeername", SYS_getpeername, &[ENOBUFS, ENOTCONN]),
        (
            "epoll_create1",
            SYS_epoll_create1,
            &[EMFILE, ENFILE, ENOMEM],
        ),
        ("epoll_ctl", SYS_epoll_ctl, &[ENOMEM, ENOSPC]),
        ("epoll_pwait2", SYS_epoll_pwait2, &[EINTR, ENOSYS]),
        ("memfd_create", SYS_memfd_create, &[EMFILE, ENFILE, ENOMEM]),
        (
            "openat",
            SYS_openat,
            &[EACCES, EMFILE, ENFILE, ENOENT, ENOMEM, ESRCH],
        ),
        (
            "readlinkat",
            SYS_readlinkat,
            &[EACCES, ENOENT, ENOMEM, ESRCH],
        ),
        ("getrandom", SYS_getrandom, &[EINTR, ENOSYS]),
        ("clone3", SYS_clone3, &[EAGAIN, ENOMEM, ENOSYS, EPERM]),
    ]
};

/// What a function may answer: the table of docs/design.md, and what the kernel says.
const TABLE: &[i32] = {
    use libc::*;
    &[
        EINVAL,
        EBADF,
        ESRCH,
        ECONNREFUSED,
        EPERM,
        EAGAIN,
        ETIMEDOUT,
        ETOOMANYREFS,
        EMFILE,
        ENFILE,
        ENOMEM,
        EMSGSIZE,
        EADDRINUSE,
        EOPNOTSUPP,
        EINTR,
    ]
};

/// What both processes see.
#[derive(Default)]
struct Shared {
    listener: AtomicI64,
    armed: AtomicI64,
    result: AtomicI64,
    again: AtomicI64,
    left: AtomicI64,
    /// How many stay open for the next time where nothing fails.
    kept: AtomicI64,
}

type Answer = Result<(), i32>;

/// What is done to the target, by name.
type Scenario = (&'static str, fn(u32, Port) -> Answer);

const SCENARIOS: [Scenario; 6] = [
    ("send by pidfd", |pid, port| send_by(Path::Pidfd, pid, port)),
    ("send by name", |pid, port| send_by(Path::Name, pid, port)),
    ("send by any", |pid, port| {
        errno(send_with(
            pid,
            port,
            &[std::io::stdin().as_fd()],
            &SendOptions::new(),
        ))
    }),
    ("probe", |pid, port| errno(probe(pid, port).map(drop))),
    ("open and receive", |_, port| {
        let receiver = Receiver::open(port).map_err(|error| error.raw_os_error())?;
        let own = std::process::id();
        errno(send_with(
            own,
            port,
            &[std::io::stdin().as_fd()],
            &SendOptions::new(),
        ))?;
        errno(receiver.recv(Wait::Never).map(drop))
    }),
    ("listen", |_, port| {
        errno(listen(port))?;
        errno(unlisten(port))
    }),
];

fn errno<T>(result: sendfd_core::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error())
}

fn send_by(path: Path, pid: u32, port: Port) -> Answer {
    let options = SendOptions::new().paths(path);
    errno(send_with(pid, port, &[std::io::stdin().as_fd()], &options))
}

fn as_number(answer: Answer) -> i64 {
    answer.err().map_or(0, i64::from)
}

fn open_descriptors() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(-1, |all| all.count() as i64)
}

/// The child: once for what stays open, then with the fault, then again.
fn child(shared: &Shared, act: impl Fn() -> Answer) -> ! {
    install(shared);
    while shared.armed.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    let before = open_descriptors();
    shared.armed.store(2, Ordering::Release);
    let result = act();
    shared.armed.store(1, Ordering::Release);
    shared.result.store(as_number(result), Ordering::Release);
    shared.again.store(as_number(act()), Ordering::Release);
    // Some are closed by a thread of their own.
    let until = Instant::now() + Duration::from_secs(5);
    let left = loop {
        let left = open_descriptors() - before;
        if left <= shared.kept.load(Ordering::Acquire) || Instant::now() > until {
            break left;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    shared.left.store(left, Ordering::Release);
    // SAFETY: nothing is to be cleaned up.
    unsafe { libc::_exit(0) }
}

fn install(shared: &Shared) {
    let load = libc::sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let answer = |k| libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k,
    };
    let mut program = vec![load];
    for (_, call, _) in CALLS {
        program.push(libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: *call as u32,
        });
        program.push(answer(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: a valid program.
    let listener = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &filter,
        )
    };
    shared.listener.store(listener + 1, Ordering::Release);
}

/// Runs it with the call number `place` failing. Answers the calls that were made, and the status.
fn run(shared: &Shared, place: usize, fault: i32, act: impl Fn() -> Answer) -> (Vec<c_long>, i32) {
    for cell in [
        &shared.listener,
        &shared.armed,
        &shared.result,
        &shared.again,
        &shared.left,
    ] {
        cell.store(0, Ordering::Release);
    }
    // SAFETY: there is one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child(shared, act);
    }
    while shared.listener.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    let number = shared.listener.load(Ordering::Acquire) - 1;
    // SAFETY: numbers; what comes back is new.
    let (pidfd, listener) = unsafe {
        let pidfd = OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32);
        let listener = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) as i32;
        assert!(listener >= 0, "{}", std::io::Error::last_os_error());
        (pidfd, OwnedFd::from_raw_fd(listener))
    };
    shared.armed.store(1, Ordering::Release);
    let mut calls = Vec::new();
    let status = loop {
        let mut fds = [listener.as_raw_fd(), pidfd.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: valid places, here and below.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, 20_000) };
        if ready == 0 {
            // SAFETY: our child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        if fds[0].revents & libc::POLLIN != 0 {
            answer_one(shared, &listener, place, fault, &mut calls);
        } else if fds[1].revents != 0 || ready == 0 {
            let mut status = 0;
            // SAFETY: our child.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            break status;
        }
    };
    (calls, status)
}

fn answer_one(
    shared: &Shared,
    listener: &OwnedFd,
    place: usize,
    fault: i32,
    calls: &mut Vec<c_long>,
) {
    const RECV: u64 = 0xc050_2100;
    const SEND: u64 = 0xc018_2101;
    // SAFETY: the structures of seccomp_unotify(2), zeroed as it asks for.
    unsafe {
        let mut notice: libc::seccomp_notif = std::mem::zeroed();
        if libc::ioctl(listener.as_raw_fd(), RECV, &mut notice) < 0 {
            return;
        }
        let mut response: libc::seccomp_notif_resp = std::mem::zeroed();
        response.id = notice.id;
        response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        if shared.armed.load(Ordering::Acquire) == 2 {
            if calls.len() == place {
                response.flags = 0;
                response.error = -fault;
            }
            calls.push(c_long::from(notice.data.nr));
        }
        libc::ioctl(listener.as_raw_fd(), SEND, &response);
    }
}

fn main() {
    let peer = std::env::current_exe()
        .expect("/proc")
        .with_file_name("peer");
    let mut target = Peer::start(FilePath::new(&peer));
    let port = Port::new(9).expect("a port");
    target.ok(format!("open sig={}", port.signal()));
    let pid = target.pid() as u32;
    block(port.signal());
    let len = size_of::<Shared>();
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new pages, all zero, which is a valid Shared; they stay to the end.
    let shared = unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        &*at.cast::<Shared>()
    };
    let (mut places, mut runs, mut failed) = (0, 0, 0);
    for (name, scenario) in SCENARIOS {
        shared.kept.store(i64::MAX, Ordering::Release);
        let (calls, _) = run(shared, usize::MAX, 0, || scenario(pid, port));
        let kept = shared.left.load(Ordering::Acquire);
        shared.kept.store(kept, Ordering::Release);
        println!("{name}: {} places", calls.len());
        places += calls.len();
        for (place, call) in calls.iter().enumerate() {
            let (call, _, errnos) = CALLS
                .iter()
                .find(|(_, number, _)| number == call)
                .expect("filtered");
            for errno in *errnos {
                let (_, status) = run(shared, place, *errno, || scenario(pid, port));
                runs += 1;
                // The inbox of the target must not fill up.
                while let sendfd_tests::Answer::Ok(_) =
                    target.ask(format!("recv sig={} ms=0", port.signal()))
                {}
                let result = shared.result.load(Ordering::Acquire) as i32;
                let again = shared.again.load(Ordering::Acquire);
                let left = shared.left.load(Ordering::Acquire);
                let fine = result == 0 || TABLE.contains(&result);
                // A number that does not tell whose it is may be somebody else's, and is left alone.
                let unknown = if *call == "getsockopt" { 2 } else { 0 };
                let may_be_left = kept + unknown;
                // That a call is not there is remembered.
                let remembered = *errno == libc::ENOSYS && again == i64::from(libc::EOPNOTSUPP);
                if status != 0 || !fine || (again != 0 && !remembered) || left > may_be_left {
                    failed += 1;
                    println!(
                        "FAILED {name}: place {place}, {call} fails with {errno}: status {status}, errno {result}, again {again}, {left} descriptors left"
                    );
                }
            }
        }
    }
    println!("{places} places, {runs} faults");
    println!("{} passed, {failed} failed", runs - failed);
    std::process::exit(i32::from(failed > 0));
}

fn block(sig: i32) {
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, sig);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}
