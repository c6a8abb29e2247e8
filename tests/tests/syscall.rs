//! The `syscall` path, on a kernel that has sendfd(2). Skipped by name elsewhere; `make test-kernel`
//! boots one and runs this, and all other tests, in it.

mod common;
use common::{has_call, pair, peer, peer_as};
use sendfd_tests::{Answer, has, signal, word};

fn has_sendfd() -> bool {
    has("sendfd", has_call())
}

#[test]
fn it_comes_first_and_reaches_a_receiver() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let before = target.count();
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "syscall");
    for _ in 0..100 {
        let sent = sender.ok("tsend");
        let answer = target.ok(format!("recv sig={sig} ms=5000"));
        assert_eq!(
            (word(&answer, "fds"), word(&answer, "path")),
            (sent.as_str(), "syscall")
        );
        assert_eq!(word(&answer, "pid"), sender.pid().to_string());
        assert_eq!(word(&answer, "uid"), "0");
    }
    assert_eq!(target.count(), before);
    // One after another without anybody receiving meanwhile: in order.
    let sent: Vec<_> = (0..500).map(|_| sender.ok("tsend")).collect();
    for sent in sent {
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "fds"),
            sent
        );
    }
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    assert_eq!(target.ok(format!("ready sig={sig}")), "0");
}

#[test]
fn what_it_cannot_carry_goes_another_way() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    sender.ok(format!("target pid={pid} sig={sig}"));
    for more in ["tag=1", "data=x", "n=2", "n=253 tag=9 data=y"] {
        sender.ok(format!("tsend {more}"));
        let answer = target.ok(format!("recv sig={sig} ms=5000"));
        assert_eq!(word(&answer, "path"), "pidfd", "{more}");
    }
    sender.ok("tsend");
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "syscall"
    );
    // Unless the caller insists.
    sender.ok(format!("target pid={pid} sig={sig} paths=syscall"));
    let text = sender.fails("tsend tag=1", libc::EOPNOTSUPP);
    assert!(text.contains("syscall"), "{text}");
    sender.fails(
        format!("send pid={pid} sig={sig} paths=syscall n=2"),
        libc::EOPNOTSUPP,
    );
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
}

#[test]
fn a_receiver_in_a_process_that_blocks_the_signal() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("block sig={sig}"));
    target.ok(format!("open sig={sig}"));
    let sent: Vec<_> = (0..20)
        .map(|_| sender.ok(format!("send pid={pid} sig={sig} paths=syscall")))
        .collect();
    assert_eq!(target.ok(format!("ready sig={sig}")), "1");
    for sent in sent {
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "fds"),
            sent
        );
    }
}

#[test]
fn closing_a_receiver_leaves_no_signal_behind() {
    if !has_sendfd() {
        return;
    }
    for blocked in [false, true] {
        let (mut sender, mut target) = (peer(), peer());
        let (pid, sig) = (target.pid(), signal(0));
        if blocked {
            target.ok(format!("block sig={sig}"));
        }
        let before = target.count();
        target.ok(format!("open sig={sig}"));
        sender.ok(format!("send pid={pid} sig={sig} times=50"));
        target.ok(format!("close sig={sig}"));
        assert_eq!(target.count(), before);
        if !blocked {
            // Nobody asks for the signal any more.
            sender.fails(
                format!("send pid={pid} sig={sig} paths=syscall"),
                libc::ECONNREFUSED,
            );
            sender.fails(format!("send pid={pid} sig={sig}"), libc::ECONNREFUSED);
        }
        assert!(target.lives());
        assert_eq!(target.count(), before);
    }
}

#[test]
fn a_forked_child_takes_nothing_of_what_its_parent_was_sent() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let sent: Vec<_> = (0..5)
        .map(|_| sender.ok(format!("send pid={pid} sig={sig} paths=syscall")))
        .collect();
    let answer = target.ok(format!("fork-recv sig={sig}"));
    assert!(
        answer.starts_with(&format!("errno={}", libc::EBADF)),
        "{answer}"
    );
    for sent in sent {
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "fds"),
            sent
        );
    }
}

#[test]
fn errors() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let line =
        |pid: i32, sig: i32, more: &str| format!("send pid={pid} sig={sig} paths=syscall {more}");
    sender.ok(line(pid, sig, ""));
    target.ok(format!("recv sig={sig} ms=5000"));
    let before = (sender.count(), target.count());
    sender.fails(line(pid, sig, "n=0 bad=9999"), libc::EBADF);
    sender.fails(line(pid, signal(9), ""), libc::ECONNREFUSED);
    sender.fails(line(pid, signal(9), "ms=50"), libc::ETIMEDOUT);
    sender.fails(line(1 << 30, sig, ""), libc::ESRCH);
    assert_eq!((sender.count(), target.count()), before);

    // The table that is full is the target's, and nothing gets lost by it.
    target.ok("nofile n=64");
    target.ok("fill");
    sender.fails(line(pid, sig, ""), libc::EMFILE);
    sender.fails(line(pid, sig, "ms=50"), libc::ETIMEDOUT);
    target.ok("unfill");
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    sender.ok(line(pid, sig, ""));
    target.ok(format!("recv sig={sig} ms=5000"));

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
        target.ok(format!("open sig={sig}"));
        for (uid, works) in [(0, true), (1000, true), (1001, false)] {
            let mut sender = peer_as(uid);
            let line = format!("send pid={pid} sig={sig} paths=syscall");
            if works {
                sender.ok(line);
                let answer = target.ok(format!("recv sig={sig} ms=5000"));
                assert_eq!(word(&answer, "uid"), uid.to_string());
            } else {
                sender.fails(line, libc::EPERM);
                sender.fails(format!("bare pid={pid} sig={sig}"), libc::EPERM);
            }
        }
        target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    }
}

#[test]
fn a_sender_killed_right_after_success() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let before = target.count();
    // Without a tag, which the call cannot carry.
    sender.tell(format!(
        "killed-after-send pid={pid} sig={sig} paths=syscall times=1000 untagged=1"
    ));
    for _ in 0..1000 {
        target.ok(format!("recv sig={sig} ms=20000"));
    }
    assert!(matches!(sender.answer(), Answer::Ok(_)));
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn many_at_once_arrive_each_once() {
    if !has_sendfd() {
        return;
    }
    let (mut sender, mut target, pid, sig) = pair();
    let before = target.count();
    target.tell(format!("count-in sig={sig} threads=4 total=8000"));
    sender.ok(format!(
        "flood pid={pid} sig={sig} threads=8 each=1000 paths=syscall untagged=1"
    ));
    assert_eq!(target.answer(), Answer::Ok("received=8000".into()));
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
    let (mut sender, mut target, pid, sig) = pair();
    let sent = sender.ok(format!("bare pid={pid} sig={sig}"));
    let answer = target.ok(format!("recv sig={sig} ms=5000"));
    assert_eq!(
        (word(&answer, "fds"), word(&answer, "path")),
        (sent.as_str(), "syscall")
    );
    // While it already waits, too: the handler interrupts the wait, and that is no error.
    target.tell(format!("recv sig={sig} ms=5000"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let sent = sender.ok(format!("bare pid={pid} sig={sig}"));
    let Answer::Ok(answer) = target.answer() else {
        panic!("interrupted");
    };
    assert_eq!(word(&answer, "fds"), sent);
}

#[test]
fn signal_mode_by_the_kernel() {
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
        let by_call = sender.ok(format!("send pid={pid} sig={sig} paths=syscall"));
        let answer = target.ok(format!("signals how={take} sig={sig} n=1"));
        assert_eq!(word(&answer, "fd"), by_call);
        // And what other paths bring, by the agent.
        let by_agent = sender.ok(format!("send pid={pid} sig={sig} tag=1"));
        let answer = target.ok(format!("signals how={take} sig={sig} n=1"));
        assert_eq!(word(&answer, "fd"), by_agent);
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
