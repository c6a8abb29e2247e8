//! What a send promises while it waits, when its process changes, and when its target ends.
//!
//! These tests send themselves. What changes a whole process happens in a child of theirs.

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{PATHS, in_child, pair, path, peer, peer_as, port};
use rustix::fs::MemfdFlags;
use sendfd_core::{
    Cause, Path, Paths, Port, Receiver, SendOptions, Target, TargetOptions, Wait, WaitFor, send,
    send_with,
};
use sendfd_tests::{Answer, Peer, has, has_root, signal, word};

/// Long enough for any machine.
const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

fn pid(peer: &Peer) -> u32 {
    peer.pid().unsigned_abs()
}

fn passenger() -> OwnedFd {
    rustix::fs::memfd_create(c"passenger", MemfdFlags::CLOEXEC).expect("a memfd")
}

fn inode(fd: impl AsFd) -> String {
    rustix::fs::fstat(fd).expect("open").st_ino.to_string()
}

fn errno(result: sendfd_core::Result<()>) -> i32 {
    result.map_or_else(|error| error.raw_os_error(), |()| 0)
}

#[test]
fn what_a_number_meant_is_sent_although_it_is_reused_while_the_send_waits() {
    let mut target = peer();
    let file =
        rustix::fs::memfd_create(c"held while waiting", MemfdFlags::CLOEXEC).expect("a memfd");
    let (meant, number) = (inode(&file), file.as_raw_fd());
    let target_pid = pid(&target);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // SAFETY: open when the call is made, which is what counts.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            send_with(
                target_pid,
                port(),
                &[fd],
                &SendOptions::new().wait(PATIENCE),
            )
        });
        // It waits once it holds a duplicate.
        let copies = || {
            let numbers = std::fs::read_dir("/proc/self/fd").expect("/proc");
            let links = numbers.filter_map(|number| std::fs::read_link(number.ok()?.path()).ok());
            links
                .filter(|link| link.to_string_lossy().contains("held while waiting"))
                .count()
        };
        while copies() < 2 && !waiting.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let other = passenger();
        // SAFETY: `file` goes on owning the number, with another file behind it.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        target.ok(format!("open sig={}", signal(0)));
        waiting.join().expect("no panic").expect("sent");
    });
    let message = target.ok(format!("recv sig={} ms=20000", signal(0)));
    assert_eq!(word(&message, "fds"), meant);
}

#[test]
fn a_timeout_covers_descriptors_in_flight() {
    // The kernel's limit is that of all processes of a user, so this has one to itself if it can.
    let (mut sender, mut target) = if rustix::process::geteuid().is_root() {
        (peer_as(1077), peer_as(1077))
    } else {
        (peer(), peer())
    };
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    sender.ok("nofile n=40");
    let line = format!("send pid={pid} sig={sig} n=5 times=60");
    let text = sender.fails(format!("{line} ms=100"), libc::ETIMEDOUT);
    assert!(text.contains("in flight"), "{text}");
    while let Answer::Ok(_) = target.ask(format!("recv sig={sig} ms=0")) {}
    sender.tell(format!("{line} ms=60000"));
    for _ in 0..60 {
        target.ok(format!("recv sig={sig} ms=60000"));
    }
    assert!(matches!(sender.answer(), Answer::Ok(_)));
}

#[test]
fn who_waits_for_room_does_not_wait_for_a_boot() {
    let target = peer();
    let waiting = TargetOptions::new().wait(PATIENCE).wait_for(WaitFor::Room);
    let refused = Target::open_with(pid(&target), port(), &waiting).expect_err("nobody listens");
    assert_eq!(refused.cause(), Cause::NotListening);
    let options = SendOptions::new().wait(PATIENCE).wait_for(WaitFor::Room);
    let sent = send_with(pid(&target), port(), &[passenger().as_fd()], &options);
    assert_eq!(errno(sent), libc::ECONNREFUSED);
}

#[test]
fn stopping_and_continuing_a_process_does_not_end_its_wait() {
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    sender.tell(format!("send pid={pid} sig={sig} ms=60000"));
    for _ in 0..20 {
        for signal in [libc::SIGSTOP, libc::SIGCONT] {
            std::thread::sleep(Duration::from_millis(2));
            // SAFETY: a child that was not waited for.
            assert_eq!(unsafe { libc::kill(sender.pid(), signal) }, 0);
        }
    }
    target.ok(format!("open sig={sig}"));
    assert!(matches!(sender.answer(), Answer::Ok(_)));
}

#[test]
fn a_daemon_that_closes_all_descriptors_reaches_its_target_and_nobody_else() {
    let (_sender, mut target, _, sig) = pair();
    let target_pid = pid(&target);
    for path in PATHS {
        let options = SendOptions::new().paths(self::path(path));
        in_child(false, || {
            let passenger = passenger();
            send_with(target_pid, port(), &[passenger.as_fd()], &options).expect("sent");
            // SAFETY: what a daemon does; the child owns nothing that it uses later.
            unsafe { libc::close_range(3, u32::MAX, 0) };
            std::mem::forget(passenger);
            for _ in 0..3 {
                // The numbers are free, and what is opened anew gets the old ones.
                send_with(target_pid, port(), &[std::io::stderr().as_fd()], &options)
                    .expect("sent");
            }
            // These get the numbers that are left.
            let pairs: Vec<_> = (0..20)
                .map(|_| std::os::unix::net::UnixStream::pair().expect("a pair"))
                .collect();
            for _ in 0..40 {
                send_with(target_pid, port(), &[pairs[0].0.as_fd()], &options).expect("sent");
            }
            for (one, other) in &pairs {
                for mut end in [one, other] {
                    end.set_nonblocking(true).expect("still a socket of ours");
                    let nothing = end.read(&mut [0; 64]).map_err(|error| error.kind());
                    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock));
                }
            }
        });
        for _ in 0..44 {
            target.ok(format!("recv sig={sig} ms=20000"));
        }
    }
}

#[test]
fn one_thread_keeps_its_order_over_several_targets_by_name() {
    let (_sender, mut target, _, sig) = pair();
    let passenger = passenger();
    let options = TargetOptions::new().paths(Path::Name);
    let open = || Target::open_with(pid(&target), port(), &options).expect("a target");
    let targets = [open(), open(), open()];
    for tag in 0..100 {
        let options = SendOptions::new().tag(tag);
        let fds = [passenger.as_fd()];
        match tag % 4 {
            3 => send_with(pid(&target), port(), &fds, &options.paths(Path::Name)),
            nth => targets[nth as usize].send(&fds, &options),
        }
        .expect("sent");
    }
    for tag in 0..100 {
        let message = target.ok(format!("recv sig={sig} ms=20000"));
        assert_eq!(word(&message, "tag"), tag.to_string());
    }
}

#[test]
fn threads_and_a_child_wait_for_a_target_that_listens_again() {
    for path in PATHS {
        let (_sender, mut target, _, sig) = pair();
        let options = TargetOptions::new().paths(self::path(path));
        let opened = Target::open_with(pid(&target), port(), &options).expect("a target");
        let passenger = passenger();
        let waiting = SendOptions::new().wait(PATIENCE);
        target.ok(format!("close sig={sig}"));
        let (mut told, mut tell) = std::io::pipe().expect("a pipe");
        std::thread::scope(|scope| {
            let threads =
                [0, 1, 2].map(|_| scope.spawn(|| opened.send(&[passenger.as_fd()], &waiting)));
            // While they are at it.
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: it ends at once; its threads are not there.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let heard = told.read(&mut [0]).is_ok();
                let sent = opened.send(&[passenger.as_fd()], &waiting).is_ok();
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(!(heard && sent))) };
            }
            target.ok(format!("open sig={sig}"));
            for thread in threads {
                thread.join().expect("no panic").expect("sent");
            }
            tell.write_all(b"!").expect("told");
            let mut status = 0;
            // SAFETY: a valid pointer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        });
        for _ in 0..4 {
            target.ok(format!("recv sig={sig} ms=20000"));
        }
    }
}

#[test]
fn a_process_that_drops_its_rights_is_not_told_success() {
    if !has_root() {
        return;
    }
    let mut target = peer_as(1000);
    let sig = signal(0);
    target.ok(format!("open sig={sig}"));
    let target_pid = pid(&target);
    for raw in [false, true] {
        for path in PATHS {
            in_child(raw, || {
                let options = TargetOptions::new().paths(self::path(path));
                let opened = Target::open_with(target_pid, port(), &options).expect("a target");
                let fds = [std::io::stderr()
                    .as_fd()
                    .try_clone_to_owned()
                    .expect("a duplicate")];
                let fds = [fds[0].as_fd()];
                let options = SendOptions::new().paths(self::path(path));
                send_with(target_pid, port(), &fds, &options).expect("sent by root");
                in_child(raw, || {
                    // SAFETY: a plain call, of this thread alone, which is the only one.
                    assert_eq!(unsafe { libc::syscall(libc::SYS_setuid, 1001) }, 0);
                    let sent = send_with(target_pid, port(), &fds, &options);
                    assert_eq!(errno(sent), libc::EPERM);
                    assert_eq!(errno(opened.send(&fds, &options)), libc::EPERM);
                });
                // Who is accepted as the user that it has become goes on.
                // SAFETY: as above.
                assert_eq!(unsafe { libc::syscall(libc::SYS_setuid, 1000) }, 0);
                opened.send(&fds, &options).expect("sent by user 1000");
            });
            for uid in ["0", "1000"] {
                let message = target.ok(format!("recv sig={sig} ms=20000"));
                assert_eq!(word(&message, "uid"), uid);
            }
        }
    }
    assert_eq!(target.ok(format!("dropped sig={sig}")), "0");
}

#[test]
fn a_target_that_is_just_exiting_is_no_process() {
    in_child(false, || {
        if rustix::process::geteuid().is_root() {
            // SAFETY: plain calls, of the only thread. Dumpable again, as a process that never was root.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setuid, 1066), 0);
                assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
            }
        }
        let fds = [std::io::stderr()];
        let fds = [fds[0].as_fd()];
        for round in 0..150_u64 {
            let (mut listens, mut tell) = std::io::pipe().expect("a pipe");
            // SAFETY: it ends by itself; this process has one thread.
            let target = unsafe { libc::fork() };
            if target == 0 {
                let receiver = Receiver::open(port());
                let _ = tell.write_all(b"!");
                std::thread::sleep(Duration::from_micros(round % 10 * 30));
                // SAFETY: ends the process, with the receiver open.
                unsafe { libc::_exit(i32::from(receiver.is_err())) };
            }
            listens.read_exact(&mut [0]).expect("it listens");
            let path = [Paths::PIDFD, Paths::NAME, Paths::all()][round as usize % 3];
            let options = TargetOptions::new().paths(path);
            loop {
                let opened = Target::open_with(target.unsigned_abs(), port(), &options);
                match errno(opened.and_then(|open| open.send(&fds, &SendOptions::new()))) {
                    libc::ESRCH => break,
                    0 | libc::EAGAIN => {}
                    other => panic!("errno {other} by {path} in round {round}"),
                }
            }
            // SAFETY: a valid pointer.
            unsafe { libc::waitpid(target, std::ptr::null_mut(), 0) };
        }
    });
}

#[test]
fn a_child_of_a_dead_target_does_not_keep_it_alive() {
    let (mut listens, mut tell) = std::io::pipe().expect("a pipe");
    // SAFETY: it ends by itself.
    let target = unsafe { libc::fork() };
    if target == 0 {
        let receiver = Receiver::open(port());
        // SAFETY: it holds copies of all descriptors, and ends by itself.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            std::thread::sleep(Duration::from_secs(30));
            // SAFETY: ends it.
            unsafe { libc::_exit(0) };
        }
        let _ = tell.write_all(&(child as i32).to_ne_bytes());
        std::thread::sleep(Duration::from_millis(200));
        // SAFETY: ends it, with the receiver open.
        unsafe { libc::_exit(i32::from(receiver.is_err())) };
    }
    let mut child = [0; 4];
    listens.read_exact(&mut child).expect("it listens");
    let opened = Target::open(target.unsigned_abs(), port()).expect("a target");
    // SAFETY: a valid pointer.
    unsafe { libc::waitpid(target, std::ptr::null_mut(), 0) };
    let passenger = passenger();
    let start = Instant::now();
    loop {
        match errno(opened.send(&[passenger.as_fd()], &SendOptions::new())) {
            libc::ESRCH => break,
            _ if start.elapsed() > Duration::from_secs(20) => {
                panic!("it is sent to after its death")
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    // Whoever asks next is told so, too.
    let again = opened.send(&[passenger.as_fd()], &SendOptions::new());
    assert_eq!(errno(again), libc::ESRCH);
    let again = send(target.unsigned_abs(), port(), &passenger);
    assert_eq!(errno(again), libc::ESRCH);
    // SAFETY: the grandchild, which nobody else knows of.
    unsafe { libc::kill(i32::from_ne_bytes(child), libc::SIGKILL) };
}

#[test]
fn a_main_thread_that_has_exited_is_said() {
    let (mut listens, mut tell) = std::io::pipe().expect("a pipe");
    // SAFETY: it is killed below.
    let target = unsafe { libc::fork() };
    if target == 0 {
        std::thread::spawn(move || {
            let receiver = Receiver::open(port()).expect("a receiver");
            let _ = tell.write_all(b"!");
            let _ = receiver.recv(Wait::Forever);
            std::thread::sleep(Duration::from_secs(60));
        });
        // SAFETY: ends this thread alone.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    listens.read_exact(&mut [0]).expect("it listens");
    let passenger = passenger();
    let fds = [passenger.as_fd()];
    let by = |path| {
        send_with(
            target.unsigned_abs(),
            port(),
            &fds,
            &SendOptions::new().paths(path),
        )
    };
    // Its state becomes a zombie's a moment after it has exited.
    let start = Instant::now();
    while std::fs::read_dir(format!("/proc/{target}/fd")).is_ok_and(|mut fds| fds.next().is_some())
        && start.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = by(Paths::PIDFD).expect_err("there is no table");
    assert_eq!(refused.cause(), Cause::MainThreadLeft, "{refused}");
    by(Paths::NAME).expect("sent");
    // SAFETY: a child of this test.
    unsafe {
        libc::kill(target, libc::SIGKILL);
        libc::waitpid(target, std::ptr::null_mut(), 0);
    }
}

/// Has the calling thread run on the first processor only, as one of `policy` if that is permitted.
fn runs_on_the_first_processor(policy: i32, priority: i32) {
    // SAFETY: a set and parameters made here, of the calling thread.
    unsafe {
        let mut first: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut first);
        libc::sched_setaffinity(0, size_of_val(&first), &raw const first);
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = priority;
        libc::sched_setscheduler(0, policy, &raw const parameters);
    }
}

/// What senders get while a process exits whose main thread is gone, and whose other one finds no processor
/// to exit on, for a moment.
fn answers_of_one_that_exits_late() -> Vec<i32> {
    let (mut started, mut tell) = std::io::pipe().expect("a pipe");
    let (mut wait, mut go) = std::io::pipe().expect("a pipe");
    // SAFETY: it ends itself.
    let target = unsafe { libc::fork() };
    if target == 0 {
        std::thread::spawn(move || {
            runs_on_the_first_processor(libc::SCHED_IDLE, 0);
            let _ = tell.write_all(b"!");
            std::thread::sleep(Duration::from_secs(600));
        });
        let _ = wait.read_exact(&mut [0]);
        // SAFETY: ends the whole process.
        unsafe { libc::_exit(0) };
    }
    started.read_exact(&mut [0]).expect("it has two threads");
    let passenger = passenger();
    let mut answers = Vec::new();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (busy, ended) = (Duration::from_millis(200), &ended);
        scope.spawn(move || {
            runs_on_the_first_processor(libc::SCHED_FIFO, 1);
            let _ = go.write_all(b"!");
            let start = Instant::now();
            while !ended.load(Ordering::Relaxed) && start.elapsed() < busy {}
        });
        let start = Instant::now();
        while !answers.contains(&libc::ESRCH) && start.elapsed() < Duration::from_secs(60) {
            answers.push(errno(send(target.unsigned_abs(), port(), &passenger)));
            std::thread::yield_now();
        }
        ended.store(true, Ordering::Relaxed);
    });
    // SAFETY: a child of this test.
    unsafe {
        libc::kill(target, libc::SIGKILL);
        libc::waitpid(target, std::ptr::null_mut(), 0);
    }
    answers
}

#[test]
fn one_whose_threads_exit_late_is_not_taken_for_one_without_a_main_thread() {
    for _ in 0..10 {
        let mut answers = answers_of_one_that_exits_late();
        answers.retain(|answer| *answer != libc::ECONNREFUSED);
        assert_eq!(answers, [libc::ESRCH]);
    }
}

#[test]
fn an_io_uring_cannot_travel_and_the_error_says_so() {
    let (_sender, target, _, _) = pair();
    let mut parameters = [0_u8; 120];
    // SAFETY: room for the parameters; the answer is a new descriptor or -1.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if !has("io_uring", ring >= 0) {
        return;
    }
    // SAFETY: new, and nobody else's.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as i32) };
    // Older kernels send it.
    if let Err(error) = send(pid(&target), port(), &ring) {
        assert_eq!(error.raw_os_error(), libc::EINVAL);
        assert!(error.to_string().contains("io_uring"), "{error}");
    }
}

#[test]
fn a_later_version_of_the_inbox_is_told_from_none() {
    let target = peer();
    let inode = rustix::fs::stat("/proc/self/ns/pid").expect("/proc").st_ino;
    let name = format!("sendfd/2/{inode}/{}/{}", target.pid(), signal(0));
    let address = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("short");
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        None,
    )
    .expect("a socket");
    rustix::net::bind(&listener, &address).expect("bound");
    rustix::net::listen(&listener, 4).expect("listening");
    let refused = send(pid(&target), port(), passenger()).expect_err("it is another's");
    assert_eq!(refused.cause(), Cause::LaterVersion);
    assert_eq!(refused.raw_os_error(), libc::EOPNOTSUPP);
}

#[test]
fn a_neighbouring_signal_is_named() {
    let mut target = peer();
    target.ok(format!("open sig={}", signal(1)));
    let refused = send(pid(&target), port(), passenger()).expect_err("nobody listens there");
    assert_eq!(refused.cause(), Cause::ListensNearby { sig: signal(1) });
    assert_eq!(refused.raw_os_error(), libc::ECONNREFUSED);
    let far = Port::from_signal(signal(5)).expect("a port");
    let refused = send(pid(&target), far, passenger()).expect_err("nobody listens there");
    assert_eq!(refused.cause(), Cause::NotListening);
}

#[test]
fn data_of_a_mebibyte_arrives_and_no_limit_of_files_kills_its_sender() {
    let (mut sender, mut target, pid, sig) = pair();
    let before = (sender.count(), target.count());
    for path in PATHS {
        for bytes in [4096, 4097, 1 << 20] {
            let line = format!("send pid={pid} sig={sig} paths={path} bytes={bytes}");
            sender.ok(format!("{line} n=252 tag=7"));
            let message = target.ok(format!("recv sig={sig} ms=20000"));
            assert_eq!(word(&message, "data").len(), bytes);
            assert_eq!(word(&message, "fds").split(',').count(), 252);
        }
        let line = format!("send pid={pid} sig={sig} paths={path}");
        sender.fails(format!("{line} bytes=4097 n=253"), libc::EINVAL);
        sender.fails(format!("{line} bytes={}", (1 << 20) + 1), libc::EMSGSIZE);
    }
    in_child(false, || {
        let limit = libc::rlimit {
            rlim_cur: 8192,
            rlim_max: 8192,
        };
        // SAFETY: a valid struct.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let options = SendOptions::new().data(&[1; 8193]);
        let sent = send_with(
            pid.unsigned_abs(),
            port(),
            &[std::io::stderr().as_fd()],
            &options,
        );
        assert_eq!(errno(sent), libc::EMSGSIZE);
    });
    // Sender: the cached targets.
    let after = (sender.count(), target.count());
    assert!(
        after.0 <= before.0 + 2 && after.1 <= before.1 + 1,
        "{before:?} {after:?}"
    );
}

/// Without pidfds, as before Linux 5.3, and with pidfds that all look alike, as before 6.9, a process is known
/// by when it was started: so are others that were started in the same moment.
#[test]
fn processes_that_started_together_are_told_apart() {
    let sig = signal(0);
    let mut sender = peer();
    sender.ok(format!("refuse call=pidfd_open errno={}", libc::ENOSYS));
    let mut targets: Vec<Peer> = (0..16).map(|_| peer()).collect();
    for target in &mut targets {
        target.ok(format!("open sig={sig}"));
    }
    for (tag, target) in targets.iter_mut().enumerate() {
        sender.ok(format!("send pid={} sig={sig} tag={tag}", target.pid()));
        let message = target.ok(format!("recv sig={sig} ms=20000"));
        assert_eq!(word(&message, "tag"), tag.to_string());
    }
}
