//! Signal mode: the contract of 2014, kept by the agent.

mod common;
use common::{has_call, paths_to_signals, peer};
use sendfd_tests::{Answer, has_root, signal, word};

#[test]
fn by_handler_sigwaitinfo_and_signalfd() {
    for (how, take) in [
        ("handler", "handler"),
        ("blocked", "sigwaitinfo"),
        ("blocked", "signalfd"),
    ] {
        for path in paths_to_signals() {
            let (mut sender, mut target) = (peer(), peer());
            let (pid, sig) = (target.pid(), signal(2));
            let before = target.count();
            target.ok(format!("listen sig={sig} how={how}"));
            let listening = target.count();
            let sent: Vec<_> = (0..5)
                .map(|_| sender.ok(format!("send pid={pid} sig={sig} paths={path}")))
                .collect();
            let answer = target.ok(format!("signals how={take} sig={sig} n=5"));
            let uid = rustix::process::getuid().as_raw();
            let expected: Vec<_> = sent
                .iter()
                .map(|inode| format!("pid={} uid={uid} fd={inode}", sender.pid()))
                .collect();
            assert_eq!(answer, expected.join(";"));
            // The connection of a sender by name stays for its next message.
            assert!(target.count() <= listening + 1);
            target.ok(format!("unlisten sig={sig}"));
            assert_eq!(target.count(), before);
            sender.fails(
                format!("send pid={pid} sig={sig} paths={path}"),
                libc::ECONNREFUSED,
            );
        }
    }
}

#[test]
fn several_descriptors_raise_a_signal_each() {
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(2));
    target.ok(format!("listen sig={sig} how=blocked"));
    let line = format!("send pid={pid} sig={sig} n=4 tag=1 data=lost");
    if has_call() {
        // The kernel's call carries one, and there is no inbox.
        sender.fails(&line, libc::ECONNREFUSED);
        return;
    }
    let sent = sender.ok(&line);
    let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=4"));
    let inodes: Vec<_> = answer.split(';').map(|signal| word(signal, "fd")).collect();
    assert_eq!(inodes.join(","), sent);
}

#[test]
fn a_signal_that_would_kill_is_refused_beforehand() {
    let mut target = peer();
    let before = target.count();
    let text = target.fails(format!("listen sig={}", signal(2)), libc::EINVAL);
    assert!(text.contains("would kill"), "{text}");
    assert_eq!(target.count(), before);
}

#[test]
fn a_full_queue_of_signals_loses_nothing() {
    if !has_root() {
        return;
    }
    for path in paths_to_signals() {
        // The limit counts all signals of a user, so it is one that nobody else here has; and root
        // is not above it.
        let mut target = common::peer_as(1004);
        let mut sender = common::peer_as(1004);
        let (pid, sig) = (target.pid(), signal(2));
        target.ok("sigpending n=3");
        target.ok(format!("listen sig={sig} how=blocked"));
        let mut sent = Vec::new();
        loop {
            match sender.ask(format!("send pid={pid} sig={sig} paths={path}")) {
                Answer::Ok(inode) => sent.push(inode),
                Answer::Error(errno, text) => {
                    // The senders feel it once the inbox, too, is full.
                    assert_eq!(errno, libc::EAGAIN, "{text}");
                    break;
                }
            }
        }
        // The agent leaves the inbox to fill as well.
        assert!(sent.len() > if has_call() { 2 } else { 100 });
        let answer = target.ok(format!(
            "signals how=sigwaitinfo sig={sig} n={}",
            sent.len()
        ));
        let received: Vec<_> = answer.split(';').map(|signal| word(signal, "fd")).collect();
        assert_eq!(received, sent);
    }
}

#[test]
fn a_full_table_loses_nothing() {
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(2));
    let path = paths_to_signals()[0];
    target.ok("nofile n=64");
    target.ok(format!("listen sig={sig} how=blocked"));
    sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
    target.ok(format!("signals how=sigwaitinfo sig={sig} n=1"));
    target.ok("fill");
    let sent: Vec<_> = (0..20)
        .map(|_| sender.ok(format!("send pid={pid} sig={sig} paths={path}")))
        .collect();
    if has_call() {
        // It is told, and the signal stays.
        target.fails(format!("take sig={sig}"), libc::EMFILE);
    }
    target.ok("unfill");
    let answer = target.ok(format!("signals how=sigwaitinfo sig={sig} n=20"));
    let received: Vec<_> = answer.split(';').map(|signal| word(signal, "fd")).collect();
    assert_eq!(received, sent);
}

#[test]
fn unlisten_ends_even_with_a_full_queue_of_signals() {
    let (mut sender, mut target) = (peer(), peer());
    let (pid, sig) = (target.pid(), signal(2));
    let before = target.count();
    target.ok("sigpending n=0");
    target.ok(format!("listen sig={sig} how=blocked"));
    if has_call() {
        sender.fails(format!("send pid={pid} sig={sig}"), libc::EAGAIN);
    } else {
        sender.ok(format!("send pid={pid} sig={sig} paths=pidfd times=50"));
    }
    target.ok(format!("unlisten sig={sig}"));
    assert_eq!(target.count(), before);
    // And can begin again.
    target.ok(format!("listen sig={sig} how=blocked"));
    target.ok(format!("unlisten sig={sig}"));
}
