//! What a process has around it: another network, no /proc, a set-user-ID program that inherited an inbox, a
//! small signal stack, a receiver that has retired.

mod common;

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{PATHS, in_child, path, peer, port};
use sendfd_core::{
    Cause, Path, Paths, Port, Receiver, SendOptions, Target, TargetOptions, Wait, WaitFor,
};
use sendfd_tests::{Peer, has, has_root, signal};

fn passenger() -> OwnedFd {
    std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .expect("a duplicate")
}

/// A target that listens, and its pid.
fn listening() -> (Peer, u32) {
    let mut target = peer();
    target.ok(format!("open sig={}", signal(0)));
    let pid = target.pid().unsigned_abs();
    (target, pid)
}

#[test]
fn another_network_namespace_is_said() {
    if !has_root() {
        return;
    }
    let (mut target, pid) = listening();
    in_child(false, || {
        // SAFETY: a plain call, of the only thread.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let by_name = TargetOptions::new().paths(Paths::NAME);
        let error = Target::open_with(pid, port(), &by_name).expect_err("out of reach");
        assert_eq!(error.cause(), Cause::OtherNetwork);
        let text = error.to_string();
        assert!(text.contains("another network namespace"), "{text}");
        assert!(text.contains("allow the pidfd path"), "{text}");
        // By the other path, addresses do not matter.
        let target = Target::open(pid, port()).expect("a target");
        assert_eq!(target.path(), Path::Pidfd);
        target
            .send(&[passenger().as_fd()], &SendOptions::new())
            .expect("sent");
    });
    target.ok(format!("recv sig={} ms=20000", signal(0)));
}

#[test]
fn a_missing_proc_is_said() {
    if !has_root() {
        return;
    }
    let (mut target, pid) = listening();
    in_child(false, || {
        // SAFETY: plain calls with terminated strings, of the only thread.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
            assert_eq!(
                libc::mount(none, root, std::ptr::null(), flags, std::ptr::null()),
                0
            );
            assert_eq!(libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH), 0);
        }
        let by_pidfd = TargetOptions::new().paths(Paths::PIDFD);
        let error = Target::open_with(pid, port(), &by_pidfd).expect_err("not to be found");
        assert_eq!(error.cause(), Cause::NoProc);
        let text = error.to_string();
        assert!(text.contains("there is no /proc"), "{text}");
        assert!(text.contains("mount /proc"), "{text}");
    });
    assert!(target.lives());
}

/// Whoever starts a set-user-ID program can leave it an inbox to inherit, and keep the receiving end.
#[test]
fn what_root_sends_to_a_set_user_id_program_goes_to_no_planted_inbox() {
    if !has_root() {
        return;
    }
    let program = std::env::temp_dir().join(format!("sendfd-set-user-id-{}", std::process::id()));
    std::fs::copy("/bin/sleep", &program).expect("a copy");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).expect("set-user-ID");
    let name = CString::new(program.to_str().expect("UTF-8")).expect("no zero");

    let (mut listens, mut tell) = std::io::pipe().expect("a pipe");
    let (mut told, mut go) = std::io::pipe().expect("a pipe");
    // SAFETY: the child makes plain calls and becomes another program, or ends.
    let victim = unsafe { libc::fork() };
    if victim == 0 {
        // SAFETY: as above. It has one thread.
        unsafe {
            libc::syscall(libc::SYS_setgid, 1077);
            libc::syscall(libc::SYS_setuid, 1077);
            let receiver = Receiver::open(port());
            let planted = receiver.is_ok();
            for number in 3..256 {
                libc::fcntl(number, libc::F_SETFD, 0);
            }
            let attacker = std::process::id();
            if libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) == 0 {
                // Keeps copies of everything, for as long as this lasts.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                while libc::getppid().unsigned_abs() == attacker {
                    libc::usleep(100_000);
                }
                libc::_exit(0);
            }
            let _ = tell.write_all(&[u8::from(planted)]);
            let _ = told.read_exact(&mut [0]);
            let words = [name.as_ptr(), c"60".as_ptr(), std::ptr::null()];
            libc::execv(name.as_ptr(), words.as_ptr());
            libc::_exit(1);
        }
    }
    let pid = victim.unsigned_abs();
    let mut planted = [0];
    listens.read_exact(&mut planted).expect("it listens");
    assert_eq!(planted, [1]);
    let fd = passenger();
    let send = |paths: Paths| {
        let options = TargetOptions::new().paths(paths);
        let target = Target::open_with(pid, port(), &options);
        target.and_then(|target| target.send(&[fd.as_fd()], &SendOptions::new()))
    };
    for name in PATHS {
        send(path(name)).expect("sent while it is the user's own");
    }
    go.write_all(b"!").expect("it waits");
    let effective = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("Uid:"));
        line.and_then(|line| line.split_whitespace().nth(2).map(str::to_owned))
    };
    let became = || {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        exe.is_ok_and(|exe| exe == program)
    };
    let start = Instant::now();
    while !became() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Not where the folder for temporary files is mounted nosuid.
    if has("setuid", effective().as_deref() == Some("0")) {
        for paths in [Paths::PIDFD, Paths::NAME, Paths::all()] {
            let refused = send(paths).expect_err("the inbox is not the program's own");
            assert_eq!(refused.raw_os_error(), libc::ECONNREFUSED, "{refused}");
        }
    }
    // SAFETY: our own child.
    unsafe {
        libc::kill(victim, libc::SIGKILL);
        libc::waitpid(victim, std::ptr::null_mut(), 0);
    }
    let _ = std::fs::remove_file(&program);
}

#[test]
fn who_has_retired_refuses_by_every_path() {
    for name in PATHS {
        let port = Port::new(3).expect("a port");
        let receiver = Receiver::open(port).expect("a receiver");
        let options = TargetOptions::new().paths(path(name));
        let target = Target::open_with(std::process::id(), port, &options).expect("a target");
        let fd = passenger();
        let send = |options: SendOptions<'_>| {
            let sent = target.send(&[fd.as_fd()], &options);
            sent.map_err(|error| error.cause())
        };
        send(SendOptions::new()).expect("sent");
        receiver.retire().expect("retired");
        // It is still open, and to wait for room there would be to wait for ever.
        let waiting = SendOptions::new()
            .wait(Wait::For(Duration::from_secs(60)))
            .wait_for(WaitFor::Room);
        for options in [SendOptions::new(), waiting] {
            assert_eq!(send(options), Err(Cause::NotListening), "{name}");
        }
        receiver.recv(Wait::Forever).expect("what was sent before");
        let end = receiver.recv(Wait::Never).map_err(|error| error.cause());
        assert_eq!(end.err(), Some(Cause::Retired));
        // Where the next receiver opens, the same target goes on.
        let next = Receiver::open(port).expect("the port is free");
        send(SendOptions::new()).expect("sent");
        next.recv(Wait::Forever).expect("a message");
    }
}
