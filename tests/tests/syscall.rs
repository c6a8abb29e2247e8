//! The `syscall` path, on a kernel that has sendfd(2). Skipped by name elsewhere; `make test-kernel`
//! boots one and runs this, and all other tests, in it.

mod common;
use common::{has_call, pair, peer, peer_as};
use sendfd_tests::{Answer, Peer, has, signal, word};

fn has_sendfd() -> bool {
    has("sendfd", has_call())
}

/// A sender, and a target in signal mode that blocks the signal: its pid and signal.
fn listening() -> (Peer, Peer, i32, i32) {
    let (sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("listen sig={sig} how=blocked"));
    (sender, target, pid, sig)
}

/// What `n` signals brought, in order.
fn taken(target: &mut Peer, sig: i32, n: usize) -> Vec<String> {
    let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n={n}"));
    let fds = answer
        .split(';')
        .map(|signal| word(signal, "fd").to_owned());
    fds.collect()
}

#[test]
fn it_comes_first_in_signal_mode() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    let before = target.count();
    target.ok(format!("listen sig={sig} how=blocked"));
    // No inbox, and no thread.
    assert_eq!(target.count(), before);
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    assert_eq!(tasks.count(), 1);
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "syscall");
    for _ in 0..100 {
        let sent = sender.ok("tsend");
        let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=1"));
        assert_eq!(answer, format!("pid={} uid=0 fd={sent}", sender.pid()));
    }
    assert_eq!(target.count(), before);
    // One after another without anybody receiving meanwhile: in order.
    let sent: Vec<_> = (0..500).map(|_| sender.ok("tsend")).collect();
    assert_eq!(taken(&mut target, sig, 500), sent);
    target.fails(format!("take sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn what_it_cannot_carry_is_refused() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    sender.ok(format!("target pid={pid} sig={sig}"));
    for more in ["tag=1", "data=x", "n=2", "n=253 tag=9 data=y"] {
        // There is no inbox for it.
        sender.fails(format!("tsend {more}"), libc::ECONNREFUSED);
        sender.fails(
            format!("send pid={pid} sig={sig} {more}"),
            libc::ECONNREFUSED,
        );
    }
    let sent = sender.ok("tsend");
    assert_eq!(taken(&mut target, sig, 1), [sent]);
    sender.ok(format!("target pid={pid} sig={sig} paths=syscall"));
    let text = sender.fails("tsend tag=1", libc::EOPNOTSUPP);
    assert!(text.contains("syscall"), "{text}");
    sender.fails(
        format!("send pid={pid} sig={sig} paths=syscall n=2"),
        libc::EOPNOTSUPP,
    );
    target.fails(format!("take sig={sig}"), libc::EAGAIN);
}

#[test]
fn a_receiver_is_reached_another_way() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "pidfd");
    let sent = sender.ok("tsend");
    let answer = target.ok(format!("recv sig={sig} ms=5000"));
    assert_eq!(
        (word(&answer, "fds"), word(&answer, "path")),
        (sent.as_str(), "pidfd")
    );
    // It catches no signal, so that nobody can raise one in it, or forge one.
    sender.fails(
        format!("send pid={pid} sig={sig} paths=syscall"),
        libc::ECONNREFUSED,
    );
    sender.fails(format!("bare pid={pid} sig={sig}"), libc::ECONNREFUSED);
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
}

#[test]
fn unlisten_takes_the_permission_back() {
    if !has_sendfd() {
        return;
    }
    for how in ["handler", "blocked"] {
        let (mut sender, mut target) = (peer(), peer());
        let (pid, sig) = (target.pid(), signal(0));
        let before = target.count();
        for _ in 0..3 {
            target.ok(format!("listen sig={sig} how={how}"));
            target.fails(format!("open sig={sig}"), libc::EADDRINUSE);
            let sent: Vec<_> = (0..5)
                .map(|_| sender.ok(format!("send pid={pid} sig={sig} paths=syscall")))
                .collect();
            target.ok(format!("unlisten sig={sig}"));
            target.fails(format!("unlisten sig={sig}"), libc::EINVAL);
            for line in ["send", "bare"] {
                sender.fails(format!("{line} pid={pid} sig={sig}"), libc::ECONNREFUSED);
            }
            // What was queued is its own.
            if how == "blocked" {
                assert_eq!(taken(&mut target, sig, 5), sent);
            } else {
                target.ok(format!("signals how=handler sig={sig} n=5"));
            }
            assert_eq!(target.count(), before);
        }
    }
}

#[test]
fn another_action_ends_it_and_listening_again_begins() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    target.fails(format!("listen sig={sig}"), libc::EADDRINUSE);
    // Sets a handler, as any program may that knows nothing of the permission.
    target.ok(format!("listen sig={sig} how=handler"));
    let line = format!("send pid={pid} sig={sig} paths=syscall");
    let sent = sender.ok(&line);
    assert_eq!(taken(&mut target, sig, 1), [sent]);
    target.ok(format!("unlisten sig={sig}"));
    sender.fails(&line, libc::ECONNREFUSED);
}

#[test]
fn a_forked_child_does_not_listen() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    let child: i32 = target.ok("fork-idle").parse().expect("a pid");
    for line in ["send", "bare"] {
        sender.fails(format!("{line} pid={child} sig={sig}"), libc::ECONNREFUSED);
    }
    let sent = sender.ok(format!("send pid={pid} sig={sig}"));
    assert_eq!(taken(&mut target, sig, 1), [sent]);
    // SAFETY: a child of a peer's.
    unsafe { libc::kill(child, libc::SIGKILL) };
}

#[test]
fn errors() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    let line =
        |pid: i32, sig: i32, more: &str| format!("send pid={pid} sig={sig} paths=syscall {more}");
    sender.ok(line(pid, sig, ""));
    taken(&mut target, sig, 1);
    let before = (sender.count(), target.count());
    sender.fails(line(pid, sig, "n=0 bad=9999"), libc::EBADF);
    sender.fails(line(pid, signal(9), ""), libc::ECONNREFUSED);
    sender.fails(line(pid, signal(9), "ms=50"), libc::ETIMEDOUT);
    sender.fails(line(1 << 30, sig, ""), libc::ESRCH);
    assert_eq!((sender.count(), target.count()), before);

    // A table that is full is the target's affair, and nothing gets lost by it.
    target.ok("nofile n=64");
    target.ok("fill");
    let sent = sender.ok(line(pid, sig, ""));
    for _ in 0..3 {
        target.fails(format!("take sig={sig}"), libc::EMFILE);
    }
    target.ok("unfill");
    assert_eq!(taken(&mut target, sig, 1), [sent]);

    // A target that exits while somebody waits for it to listen.
    sender.tell(line(pid, signal(9), "ms=60000"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    target.kill();
    assert!(matches!(sender.answer(), Answer::Error(libc::ESRCH, _)));
    sender.fails(line(pid, sig, ""), libc::ESRCH);
}

#[test]
fn a_target_that_does_not_ask_is_left_alone() {
    if !has_sendfd() {
        return;
    }
    let mut sender = peer();
    let mut bystander = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep");
    std::thread::sleep(std::time::Duration::from_millis(100));
    for _ in 0..100 {
        let line = format!("bare pid={} sig={}", bystander.id(), signal(0));
        sender.fails(line, libc::ECONNREFUSED);
    }
    assert_eq!(bystander.try_wait().expect("ours"), None);
    bystander.kill().expect("ours");
    bystander.wait().expect("ours");
}

#[test]
fn users() {
    if !has_sendfd() {
        return;
    }
    let mut gave_up_root = peer();
    gave_up_root.ok("setuid uid=1000");
    for mut target in [peer_as(1000), gave_up_root] {
        let (pid, sig) = (target.pid(), signal(0));
        target.ok(format!("listen sig={sig} how=blocked"));
        for (uid, works) in [(0, true), (1000, true), (1001, false)] {
            let mut sender = peer_as(uid);
            let line = format!("send pid={pid} sig={sig} paths=syscall");
            if works {
                sender.ok(line);
                let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=1"));
                assert_eq!(word(&answer, "uid"), uid.to_string());
            } else {
                sender.fails(line, libc::EPERM);
                sender.fails(format!("bare pid={pid} sig={sig}"), libc::EPERM);
            }
        }
        target.fails(format!("take sig={sig}"), libc::EAGAIN);
    }
}

#[test]
fn a_sender_killed_right_after_success() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    let before = target.count();
    // Without a tag, which the call cannot carry.
    sender.tell(format!(
        "killed-after-send pid={pid} sig={sig} paths=syscall times=1000 untagged=1"
    ));
    taken(&mut target, sig, 1000);
    assert!(matches!(sender.answer(), Answer::Ok(_)));
    target.fails(format!("take sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn many_at_once_arrive_each_once() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = listening();
    let before = target.count();
    target.tell(format!("signals how=sigwaitinfo sig={sig} n=8000"));
    sender.ok(format!(
        "flood pid={pid} sig={sig} threads=8 each=1000 paths=syscall untagged=1"
    ));
    assert!(matches!(target.answer(), Answer::Ok(_)));
    target.fails(format!("take sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn programs_that_never_heard_of_the_library_receive() {
    if !has_sendfd() {
        return;
    }
    for (how, take) in [
        ("handler", "handler"),
        ("blocked", "sigwaitinfo"),
        ("blocked", "signalfd"),
    ] {
        let (mut sender, mut target) = (peer(), peer());
        let (pid, sig) = (target.pid(), signal(3));
        target.ok(format!("catch how={how} sig={sig}"));
        let before = target.count();
        let mut sent = vec![sender.ok(format!("send pid={pid} sig={sig}"))];
        sent.push(sender.ok(format!("bare pid={pid} sig={sig}")));
        let answer = target.ok(format!("signals how={take} sig={sig} n=2"));
        let expected: Vec<_> = sent
            .iter()
            .map(|inode| format!("pid={} uid=0 fd={inode}", sender.pid()))
            .collect();
        assert_eq!(answer, expected.join(";"));
        assert_eq!(target.count(), before);
        // There is no inbox: what needs one is refused, and says so.
        sender.fails(
            format!("send pid={pid} sig={sig} tag=1"),
            libc::ECONNREFUSED,
        );
    }
}

#[test]
fn programs_that_never_heard_of_the_library_send() {
    if !has_sendfd() {
        return;
    }
    for (how, take) in [
        ("handler", "handler"),
        ("blocked", "sigwaitinfo"),
        ("blocked", "signalfd"),
    ] {
        let (mut sender, mut target) = (peer(), peer());
        let (pid, sig) = (target.pid(), signal(3));
        target.ok(format!("listen how={how} sig={sig}"));
        let sent = sender.ok(format!("bare pid={pid} sig={sig}"));
        let answer = target.ok(format!("signals how={take} sig={sig} n=1"));
        assert_eq!(answer, format!("pid={} uid=0 fd={sent}", sender.pid()));
    }
}

#[test]
fn a_full_queue_of_signals_is_eagain() {
    if !has_sendfd() {
        return;
    }
    let (mut target, mut sender) = (peer_as(1006), peer_as(1006));
    let (pid, sig) = (target.pid(), signal(3));
    target.ok("sigpending n=5");
    target.ok(format!("catch sig={sig}"));
    let line = format!("send pid={pid} sig={sig} paths=syscall");
    let mut sent = Vec::new();
    let full = loop {
        match sender.ask(&line) {
            Answer::Ok(inode) => sent.push(inode),
            Answer::Error(errno, _) => break errno,
        }
    };
    assert_eq!((full, sent.len()), (libc::EAGAIN, 5));
    let before = (sender.count(), target.count());
    sender.fails(format!("{line} ms=30"), libc::ETIMEDOUT);
    assert_eq!((sender.count(), target.count()), before);
    sender.tell(format!("{line} ms=60000"));
    std::thread::sleep(std::time::Duration::from_millis(20));
    let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=6"));
    let Answer::Ok(last) = sender.answer() else {
        panic!("no room");
    };
    sent.push(last);
    let received: Vec<_> = answer.split(';').map(|signal| word(signal, "fd")).collect();
    assert_eq!(received, sent);
}

#[test]
fn senders_in_every_language_reach_a_program_of_2014() {
    // NAME=COMMAND, a line each.
    let senders = std::env::var("SENDFD_TEST_SENDERS").unwrap_or_default();
    if !has_sendfd() || !has("senders", !senders.is_empty()) {
        return;
    }
    for line in senders.lines() {
        let (name, command) = line.split_once('=').expect("NAME=COMMAND");
        let mut target = peer();
        let (pid, sig) = (target.pid(), signal(3));
        target.ok(format!("catch sig={sig}"));
        let passenger = std::fs::File::open(std::env::current_exe().expect("this")).expect("open");
        let inode = rustix::fs::fstat(&passenger).expect("open").st_ino;
        let mut words = command.split_ascii_whitespace();
        let mut sender = std::process::Command::new(words.next().expect("a program"))
            .args(words)
            .args([pid.to_string(), sig.to_string()])
            .stdin(passenger)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=1"));
        assert_eq!(
            answer,
            format!("pid={} uid=0 fd={inode}", sender.id()),
            "{name}"
        );
        assert!(sender.wait().expect("ours").success(), "{name}");
    }
}
