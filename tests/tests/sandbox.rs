//! Sandboxes: filters that refuse pidfd_getfd(2), a narrowed environment, pid namespaces.

mod common;
use std::process::Command;

use common::{PATHS, PROGRAM, pair, peer};
use sendfd_tests::{Peer, child_of, has, has_root, signal, word};

#[test]
fn a_filter_that_answers_eperm() {
    let (mut sender, mut target, pid, sig) = pair();
    sender.ok(format!("refuse errno={}", libc::EPERM));
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "name");
    sender.ok("tsend tag=1");
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "name"
    );
    let before = sender.count();
    let text = sender.fails(format!("send pid={pid} sig={sig} paths=pidfd"), libc::EPERM);
    assert!(text.contains("seccomp"), "{text}");
    let report = sender.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("name=works"), "{report}");
    assert!(
        report.contains("a seccomp filter refuses pidfd_getfd"),
        "{report}"
    );
    assert_eq!(sender.count(), before);
}

#[test]
fn a_filter_that_answers_enosys() {
    let (mut sender, mut target, pid, sig) = pair();
    sender.ok(format!("refuse errno={}", libc::ENOSYS));
    let before = sender.count();
    // More than once: it is remembered, and the answer stays the same.
    for _ in 0..3 {
        let text = sender.fails(
            format!("send pid={pid} sig={sig} paths=pidfd"),
            libc::EOPNOTSUPP,
        );
        assert!(text.contains("pidfd"), "{text}");
    }
    let report = sender.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("name=works"), "{report}");
    assert!(report.contains("not offered here: pidfd"), "{report}");
    assert_eq!(sender.count(), before);
    sender.ok(format!("send pid={pid} sig={sig} data=x"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "name"
    );
}

#[test]
fn a_filter_that_lets_nobody_make_a_memfd() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        let line = format!("send pid={pid} sig={sig} paths={path}");
        sender.ok(format!("{line} bytes=4097"));
        target.ok(format!("recv sig={sig} ms=20000"));
        // Made before, for who sends has none to send then.
        sender.ok(format!("refuse errno={} call=memfd_create", libc::EPERM));
        let before = (sender.count(), target.count());
        // EPERM would say that the target does not accept this sender.
        let text = sender.fails(format!("{line} fds=0 bytes=4097"), libc::EOPNOTSUPP);
        assert!(text.contains("memfd"), "{text}");
        assert_eq!((sender.count(), target.count()), before);
        sender.ok(format!("{line} fds=0 bytes=4096"));
        let message = target.ok(format!("recv sig={sig} ms=20000"));
        assert_eq!(word(&message, "data").len(), 4096);
    }
}

#[test]
fn an_environment_that_names_the_paths() {
    let (_, mut target, pid, sig) = pair();
    let sender = |list: &str| Peer::start_command(Command::new(PROGRAM).env("SENDFD_PATHS", list));
    for (list, path) in [
        ("name", "name"),
        (" name , ", "name"),
        ("pidfd,name", "pidfd"),
    ] {
        let mut sender = sender(list);
        let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
        assert_eq!(word(&chosen, "path"), path, "{list}");
        sender.ok("tsend");
        target.ok(format!("recv sig={sig} ms=5000"));
    }
    let mut narrowed = sender("name");
    let text = narrowed.fails(
        format!("send pid={pid} sig={sig} paths=pidfd"),
        libc::EOPNOTSUPP,
    );
    assert!(text.contains("not offered here: pidfd"), "{text}");
    let mut wrong = sender("pidfd,nmae");
    let text = wrong.fails(format!("send pid={pid} sig={sig}"), libc::EINVAL);
    assert!(text.contains("SENDFD_PATHS"), "{text}");
}

#[test]
fn a_target_in_a_pid_namespace_of_its_own() {
    let unshares = Command::new("unshare")
        .args(["--pid", "--fork", "true"])
        .output();
    let unshares = unshares.is_ok_and(|output| output.status.success());
    if !has_root() || !has("unshare", unshares) {
        return;
    }
    let mut inner = Peer::start_command(Command::new("unshare").args([
        "--pid",
        "--fork",
        "--kill-child",
        PROGRAM,
    ]));
    let sig = signal(0);
    inner.ok(format!("open sig={sig}"));
    // It calls itself 1. Here it is the child of unshare.
    let pid = child_of(inner.pid());
    let mut outer = peer();
    for path in PATHS {
        let sent = outer.ok(format!("send pid={pid} sig={sig} paths={path}"));
        let answer = inner.ok(format!("recv sig={sig} ms=5000"));
        assert_eq!(
            (word(&answer, "fds"), word(&answer, "path")),
            (sent.as_str(), path)
        );
        // Whom it cannot see has no pid there.
        assert_eq!((word(&answer, "pid"), word(&answer, "uid")), ("0", "0"));
    }
    // Its own pid 1 is not the first process of the machine.
    let sent = inner.ok(format!("send pid=1 sig={sig} paths=name"));
    assert_eq!(
        word(&inner.ok(format!("recv sig={sig} ms=5000")), "fds"),
        sent
    );
}
