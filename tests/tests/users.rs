//! Different users, by setuid for real.

mod common;
use common::{PATHS, peer, peer_as};
use sendfd_tests::{Answer, Peer, has_root, signal, word};

/// A peer that was root and gave it up: it is not dumpable.
fn peer_gave_up_root(uid: u32) -> Peer {
    let mut peer = peer();
    peer.ok(format!("setuid uid={uid}"));
    peer
}

#[test]
fn root_to_user() {
    if !has_root() {
        return;
    }
    let mut sender = peer();
    for mut target in [peer_as(1000), peer_gave_up_root(1000)] {
        let (pid, sig) = (target.pid(), signal(0));
        target.ok(format!("open sig={sig}"));
        for path in PATHS {
            sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
            let answer = target.ok(format!("recv sig={sig} ms=5000"));
            assert_eq!(word(&answer, "path"), path);
            assert_eq!(word(&answer, "uid"), "0");
        }
    }
}

#[test]
fn opened_as_root_and_then_given_up() {
    if !has_root() {
        return;
    }
    let mut target = peer();
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    let mut sender = peer_as(1000);
    // Nothing has been received yet, so nothing may be remembered of the user it had.
    let text = sender.fails(format!("send pid={pid} sig={sig}"), libc::EPERM);
    assert!(text.contains("user 1000"), "{text}");
    target.ok("setuid uid=1000");
    sender.ok(format!("send pid={pid} sig={sig}"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "uid"),
        "1000"
    );
}

#[test]
fn same_user() {
    if !has_root() {
        return;
    }
    // Who executed its program as the user is dumpable.
    let (mut sender, mut target) = (peer_as(1000), peer_as(1000));
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    sender.ok("tsend");
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        word(&chosen, "path")
    );
    sender.ok(format!("send pid={pid} sig={sig} paths=name"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "uid"),
        "1000"
    );

    // Who changed its user is not.
    let (mut sender, mut target) = (peer_gave_up_root(1000), peer_gave_up_root(1000));
    let pid = target.pid();
    target.ok(format!("open sig={sig}"));
    let text = sender.fails(format!("send pid={pid} sig={sig} paths=pidfd"), libc::EPERM);
    assert!(text.contains("name path"), "{text}");
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "name");
    sender.ok("tsend tag=1");
    let answer = target.ok(format!("recv sig={sig} ms=5000"));
    assert_eq!(
        (word(&answer, "path"), word(&answer, "uid")),
        ("name", "1000")
    );
    let report = sender.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("name=works"), "{report}");
    assert!(
        report.contains("another user, or changed its user"),
        "{report}"
    );
}

#[test]
fn other_user_is_refused() {
    if !has_root() {
        return;
    }
    for mut target in [peer_as(1000), peer_gave_up_root(1000)] {
        let (pid, sig) = (target.pid(), signal(0));
        target.ok(format!("open sig={sig}"));
        for mut sender in [peer_as(1001), peer_gave_up_root(1001)] {
            let before = (sender.count(), target.count());
            for path in ["pidfd", "name", "pidfd,name", ""] {
                sender.fails(
                    format!("send pid={pid} sig={sig} paths={path}"),
                    libc::EPERM,
                );
                sender.fails(
                    format!("send pid={pid} sig={sig} paths={path} ms=50"),
                    libc::EPERM,
                );
            }
            assert_eq!((sender.count(), target.count()), before);
            let text = sender.fails(format!("send pid={pid} sig={sig}"), libc::EPERM);
            assert!(text.contains("does not accept user 1001"), "{text}");
        }
        target.fails(format!("recv sig={sig} ms=50"), libc::ETIMEDOUT);
    }
}

#[test]
fn other_user_that_skips_our_checks_is_dropped() {
    if !has_root() {
        return;
    }
    let (mut target, mut sender, mut friend) = (peer_as(1000), peer_as(1001), peer_as(1000));
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    let before = target.count();
    target.tell(format!("recv sig={sig} ms=20000"));
    for _ in 0..20 {
        assert_eq!(
            sender.ok(format!("raw pid={pid} sig={sig} header=1 n=1")),
            "closed=true"
        );
    }
    friend.ok(format!("send pid={pid} sig={sig} tag=8 paths=pidfd"));
    let Answer::Ok(answer) = target.answer() else {
        panic!("disturbed")
    };
    assert_eq!((word(&answer, "tag"), word(&answer, "uid")), ("8", "1000"));
    assert_eq!(target.count(), before);

    // A target opened by root goes on naming the sender that it has become.
    let mut turned = peer();
    for path in PATHS {
        turned.ok(format!("target pid={pid} sig={sig} paths={path}"));
        turned.ok("tsend tag=9");
        turned.ok("euid uid=1001");
        target.ok(format!("recv sig={sig} ms=5000"));
        turned.ok("euid uid=0");
    }
    turned.ok(format!("target pid={pid} sig={sig} paths=pidfd"));
    turned.ok("setuid uid=1001");
    // Success is not said of what the target would drop.
    let dropped = target.ok(format!("dropped sig={sig}"));
    turned.fails("tsend", libc::EPERM);
    target.fails(format!("recv sig={sig} ms=50"), libc::ETIMEDOUT);
    assert_eq!(target.ok(format!("dropped sig={sig}")), dropped);
}

#[test]
fn other_user_that_was_named() {
    if !has_root() {
        return;
    }
    let (mut target, mut sender, mut stranger) = (peer_as(1000), peer_as(1001), peer_as(1002));
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig} uids=1001,1005"));
    let before = sender.count();
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), "name");
    sender.ok("tsend");
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "uid"),
        "1001"
    );
    sender.ok("untarget");
    assert_eq!(sender.count(), before);
    stranger.fails(format!("send pid={pid} sig={sig}"), libc::EPERM);
}

#[test]
fn the_effective_user_counts() {
    if !has_root() {
        return;
    }
    // As a program of root's with the set-user-ID bit would.
    let (mut target, mut sender) = (peer_as(1000), peer());
    let (pid, sig) = (target.pid(), signal(0));
    target.ok(format!("open sig={sig}"));
    sender.ok("euid uid=1000");
    sender.ok(format!("send pid={pid} sig={sig} paths=name"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "uid"),
        "1000"
    );
    sender.ok("euid uid=0");
    sender.ok("euid uid=1001");
    sender.fails(format!("send pid={pid} sig={sig} paths=pidfd"), libc::EPERM);
}
