//! Every system call that the library makes, made to fail once at each place with each errno of its
//! manual (tests/faults.md). What comes out has to be an error of the table, or success by another way;
//! what was said to be sent arrives and nothing else does, no descriptor may be left, and the same must
//! work when it is tried again.
//!
//!     faults [SCENARIO]      those alone whose names have it
//!
//! A run is a child process whose system calls wait for this one (seccomp user notification).

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path as FilePath;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use libc::c_long;
use sendfd_core::{
    Message, Path, Port, Receiver, SendOptions, Target, TargetOptions, Wait, detect, listen, probe,
    send_with, unlisten,
};
use sendfd_tests::Peer;

/// The calls and how each may fail, as the table of tests/faults.md has it.
struct Call {
    name: String,
    number: c_long,
    errnos: Vec<i32>,
}

fn calls() -> Vec<Call> {
    let rows = include_str!("../../faults.md").lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.strip_suffix("(2)")?, cells.next()?))
    });
    let number = |table: &[(&str, i64)], name: &str| {
        let found = table.iter().find(|(known, _)| *known == name);
        found
            .unwrap_or_else(|| panic!("{name} of tests/faults.md is not known here"))
            .1
    };
    rows.map(|(name, errnos)| Call {
        name: name.to_owned(),
        number: number(NUMBERS, name),
        errnos: errnos
            .split(' ')
            .map(|errno| number(ERRNOS, errno) as i32)
            .collect(),
    })
    .collect()
}

macro_rules! named {
    ($($constant:ident)*) => { &[$((stringify!($constant), libc::$constant as i64)),*] };
}

const ERRNOS: &[(&str, i64)] = named! {
    EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EBADF EBUSY ECANCELED ECONNABORTED ECONNREFUSED ECONNRESET EDQUOT EEXIST EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE EMSGSIZE ENAMETOOLONG ENFILE ENOBUFS ENODEV ENOENT ENOMEM ENOPROTOOPT ENOSPC ENOSYS ENOTCONN ENOTDIR ENOTSOCK ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ESPIPE ESRCH ETIMEDOUT ETOOMANYREFS EUSERS
};

const NUMBERS: &[(&str, i64)] = {
    use libc::*;
    &[
        ("pidfd_open", SYS_pidfd_open),
        ("pidfd_getfd", SYS_pidfd_getfd),
        ("socket", SYS_socket),
        ("socketpair", SYS_socketpair),
        ("bind", SYS_bind),
        ("listen", SYS_listen),
        ("connect", SYS_connect),
        ("accept4", SYS_accept4),
        ("sendmsg", SYS_sendmsg),
        ("sendto", SYS_sendto),
        ("recvmsg", SYS_recvmsg),
        ("recvfrom", SYS_recvfrom),
        ("recvmmsg", SYS_recvmmsg),
        ("getsockopt", SYS_getsockopt),
        ("setsockopt", SYS_setsockopt),
        ("getpeername", SYS_getpeername),
        ("shutdown", SYS_shutdown),
        ("epoll_create1", SYS_epoll_create1),
        ("epoll_ctl", SYS_epoll_ctl),
        ("epoll_wait", SYS_epoll_wait),
        ("epoll_pwait", SYS_epoll_pwait),
        ("epoll_pwait2", SYS_epoll_pwait2),
        ("poll", SYS_poll),
        ("ppoll", SYS_ppoll),
        ("memfd_create", SYS_memfd_create),
        ("openat", SYS_openat),
        ("readlinkat", SYS_readlinkat),
        ("getdents64", SYS_getdents64),
        ("newfstatat", SYS_newfstatat),
        ("fstat", SYS_fstat),
        ("statx", SYS_statx),
        ("fstatfs", SYS_fstatfs),
        ("read", SYS_read),
        ("pread64", SYS_pread64),
        ("write", SYS_write),
        ("fcntl", SYS_fcntl),
        ("ioctl", SYS_ioctl),
        ("kill", SYS_kill),
        ("rt_sigqueueinfo", SYS_rt_sigqueueinfo),
        ("capget", SYS_capget),
        ("getrandom", SYS_getrandom),
        ("prlimit64", SYS_prlimit64),
        ("clone3", SYS_clone3),
        ("timerfd_create", SYS_timerfd_create),
        ("timerfd_settime", SYS_timerfd_settime),
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
        ESHUTDOWN,
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

/// What is done, and how many messages the target then has of it.
struct Scenario {
    name: &'static str,
    sends: i64,
    act: fn(u32, Port) -> Answer,
}

const fn scenario(name: &'static str, sends: i64, act: fn(u32, Port) -> Answer) -> Scenario {
    Scenario { name, sends, act }
}

/// More than a record has room for.
const MUCH: &[u8] = &[b'x'; 8192];

const SCENARIOS: [Scenario; 14] = [
    scenario("send by pidfd", 1, |pid, port| {
        send_by(Path::Pidfd, pid, port)
    }),
    scenario("send by name", 1, |pid, port| {
        send_by(Path::Name, pid, port)
    }),
    scenario("send by any", 1, |pid, port| {
        send(pid, port, &SendOptions::new())
    }),
    scenario("send much data", 1, |pid, port| {
        send(pid, port, &SendOptions::new().data(MUCH))
    }),
    scenario("a target by pidfd", 1, |pid, port| {
        target(Path::Pidfd, pid, port)
    }),
    scenario("a target by name", 1, |pid, port| {
        target(Path::Name, pid, port)
    }),
    scenario("wait for who does not listen", 0, |pid, port| {
        let deaf = Port::new(port.number().expect("a port") + 1).expect("a port");
        let wait = SendOptions::new().wait(Wait::For(Duration::from_millis(2)));
        match send(pid, deaf, &wait) {
            Err(libc::ETIMEDOUT) => Ok(()),
            // Somebody listens there?
            Ok(()) => Err(libc::EIO),
            other => other,
        }
    }),
    scenario("probe", 0, |pid, port| errno(probe(pid, port).map(drop))),
    scenario("detect", 0, |_, _| {
        errno(detect(std::io::stdin()).map(drop))
    }),
    scenario("open and receive", 0, |_, port| {
        let receiver = errno(Receiver::open(port))?;
        send(std::process::id(), port, &SendOptions::new())?;
        errno(receiver.recv(Wait::Never).map(drop))
    }),
    scenario("receive much data", 0, |_, port| {
        let receiver = errno(Receiver::open(port))?;
        send(std::process::id(), port, &SendOptions::new().data(MUCH))?;
        let message = errno(receiver.recv(Wait::Never))?;
        if message.data == MUCH {
            Ok(())
        } else {
            Err(libc::EIO)
        }
    }),
    scenario("receive many", 0, |_, port| {
        let receiver = errno(Receiver::open(port))?;
        for tag in 0..3 {
            send(std::process::id(), port, &SendOptions::new().tag(tag))?;
        }
        let mut tags = Vec::new();
        while tags.len() < 3 {
            let mut rooms = [(); 16].map(|()| Message::default());
            let count = errno(receiver.recv_many(&mut rooms, Wait::Never))?;
            tags.extend(rooms[..count].iter().map(|message| message.tag));
        }
        if tags == [0, 1, 2] {
            Ok(())
        } else {
            Err(libc::EIO)
        }
    }),
    scenario("retire and drain", 0, |_, port| {
        let receiver = errno(Receiver::open(port))?;
        send(std::process::id(), port, &SendOptions::new())?;
        errno(receiver.retire())?;
        errno(receiver.recv(Wait::Never).map(drop))?;
        match errno(receiver.recv(Wait::Never)) {
            Err(libc::ESHUTDOWN) => Ok(()),
            Err(other) => Err(other),
            Ok(_) => Err(libc::EIO),
        }
    }),
    scenario("signal mode", 0, |_, port| {
        errno(listen(port))?;
        let sent = send(std::process::id(), port, &SendOptions::new()).and_then(|()| take(port));
        errno(unlisten(port)).and(sent)
    }),
];

fn send(pid: u32, port: Port, options: &SendOptions<'_>) -> Answer {
    errno(send_with(pid, port, &[std::io::stdin().as_fd()], options))
}

fn target(path: Path, pid: u32, port: Port) -> Answer {
    let target = errno(Target::open_with(
        pid,
        port,
        &TargetOptions::new().paths(path),
    ))?;
    errno(target.queued())?;
    errno(target.send(&[std::io::stdin().as_fd()], &SendOptions::new()))
}

/// The signal of a message that was sent, and the descriptor in it.
fn take(port: Port) -> Answer {
    let patience = libc::timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    // SAFETY: valid places; what the signal carries is this process's.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::sigtimedwait(&set_of(port.signal()), &mut info, &patience) < 0 {
            return Err(libc::EIO);
        }
        let value = info.si_value();
        drop(OwnedFd::from_raw_fd(
            (&raw const value).cast::<i32>().read(),
        ));
    }
    Ok(())
}

fn errno<T>(result: sendfd_core::Result<T>) -> Result<T, i32> {
    result.map_err(|error| error.raw_os_error())
}

fn send_by(path: Path, pid: u32, port: Port) -> Answer {
    send(pid, port, &SendOptions::new().paths(path))
}

fn as_number(answer: Answer) -> i64 {
    answer.err().map_or(0, i64::from)
}

fn open_descriptors() -> i64 {
    std::fs::read_dir("/proc/self/fd").map_or(-1, |all| all.count() as i64)
}

/// The child: once for what stays open, then with the fault, then again.
fn child(shared: &Shared, calls: &[Call], act: impl Fn() -> Answer) -> ! {
    install(shared, calls);
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

fn install(shared: &Shared, calls: &[Call]) {
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
    for call in calls {
        program.push(libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: call.number as u32,
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

/// The nth time that a call is made, and what it then fails with.
struct Fault {
    number: c_long,
    nth: usize,
    errno: i32,
}

/// Runs it with a fault. Answers the calls that were made, and the status.
fn run(
    shared: &Shared,
    calls: &[Call],
    fault: Option<&Fault>,
    act: impl Fn() -> Answer,
) -> (Vec<c_long>, i32) {
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
        child(shared, calls, act);
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
    let mut made = Vec::new();
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
            answer_one(shared, &listener, fault, &mut made);
        } else if fds[1].revents != 0 || ready == 0 {
            let mut status = 0;
            // SAFETY: our child.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            break status;
        }
    };
    (made, status)
}

fn answer_one(shared: &Shared, listener: &OwnedFd, fault: Option<&Fault>, made: &mut Vec<c_long>) {
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
        // Rust's own check before it closes a descriptor, in debug builds: it ends the process.
        let is_check = c_long::from(notice.data.nr) == libc::SYS_fcntl
            && notice.data.args[1] == libc::F_GETFD as u64;
        if shared.armed.load(Ordering::Acquire) == 2 && !is_check {
            let number = c_long::from(notice.data.nr);
            let before = made.iter().filter(|call| **call == number).count();
            if let Some(fault) = fault
                && (fault.number, fault.nth) == (number, before)
            {
                response.flags = 0;
                response.error = -fault.errno;
            }
            made.push(number);
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
    let only = std::env::args().nth(1).unwrap_or_default();
    let calls = calls();
    let mut errnos: Vec<i32> = calls.iter().flat_map(|call| call.errnos.clone()).collect();
    errnos.sort_unstable();
    errnos.dedup();
    let (mut places, mut runs, mut failed) = (0, 0, 0);
    let mut used = HashSet::new();
    for Scenario { name, sends, act } in SCENARIOS {
        if !name.contains(&only) {
            continue;
        }
        shared.kept.store(i64::MAX, Ordering::Release);
        let (made, _) = run(shared, &calls, None, || act(pid, port));
        let first = shared.result.load(Ordering::Acquire);
        assert_eq!(first, 0, "{name}: errno {first} without a fault");
        take_all(&mut target, port);
        let kept = shared.left.load(Ordering::Acquire);
        shared.kept.store(kept, Ordering::Release);
        println!("{name}: {} places", made.len());
        places += made.len();
        used.extend(made.iter().copied());
        for (at, number) in made.iter().enumerate() {
            let call = calls.iter().find(|call| call.number == *number);
            let call = call.expect("filtered");
            let nth = made[..at].iter().filter(|call| *call == number).count();
            for errno in call.errnos.iter().copied() {
                let fault = Fault {
                    number: *number,
                    nth,
                    errno,
                };
                let (_, status) = run(shared, &calls, Some(&fault), || act(pid, port));
                runs += 1;
                let came = take_all(&mut target, port);
                let result = shared.result.load(Ordering::Acquire);
                let again = shared.again.load(Ordering::Acquire);
                let left = shared.left.load(Ordering::Acquire);
                let fine = result == 0 || TABLE.contains(&(result as i32));
                let said = sends * (i64::from(result == 0) + i64::from(again == 0));
                // A number that does not tell whose it is may be somebody else's, and is left alone.
                let unknown = if call.name == "getsockopt" { 2 } else { 0 };
                let may_be_left = kept + unknown;
                // That a call is not there is remembered.
                let remembered = errno == libc::ENOSYS && again == i64::from(libc::EOPNOTSUPP);
                if status != 0
                    || !fine
                    || (again != 0 && !remembered)
                    || left > may_be_left
                    || came != said
                {
                    failed += 1;
                    let nth = nth + 1;
                    println!(
                        "FAILED {name}: {}({nth}) fails with {errno}: status {status}, errno {result}, again {again}, {left} descriptors left, {came} messages of {said}",
                        call.name
                    );
                }
            }
        }
    }
    println!(
        "{} calls, {places} places, {} errnos, {runs} faults",
        used.len(),
        errnos.len()
    );
    println!("{} passed, {failed} failed", runs - failed);
    std::process::exit(i32::from(failed > 0));
}

/// What waits at the target; it must not fill up.
fn take_all(target: &mut Peer, port: Port) -> i64 {
    let line = format!("recv sig={} ms=0", port.signal());
    let mut came = 0;
    while let sendfd_tests::Answer::Ok(_) = target.ask(&line) {
        came += 1;
    }
    came
}

fn set_of(sig: i32) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, sig);
        set
    }
}

fn block(sig: i32) {
    // SAFETY: a valid set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set_of(sig), std::ptr::null_mut()) };
}
