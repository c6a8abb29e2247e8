//! Each row of the errno table, provoked for real, on both paths; and after each the number of open
//! descriptors in both processes is what it was.

mod common;
use common::{PATHS, RECEIVER_COST, has_call, pair, peer};
use sendfd_tests::{Answer, has, has_root, signal, word};

/// Has `sender` fail with `errno`, and counts before and after.
#[track_caller]
fn fails_clean(
    sender: &mut sendfd_tests::Peer,
    target: &mut sendfd_tests::Peer,
    line: &str,
    errno: i32,
) -> String {
    let before = (sender.count(), target.count());
    let text = sender.fails(line, errno);
    assert_eq!((sender.count(), target.count()), before, "{line}");
    text
}

#[test]
fn einval() {
    let (mut sender, mut target, pid, sig) = pair();
    for line in [
        format!("send pid={pid} sig=33"),
        format!("send pid={pid} sig=65"),
        format!("send pid={pid} sig=9"),
        format!("send pid=0 sig={sig}"),
        format!("send pid=-1 sig={sig}"),
        format!("send pid=-{pid} sig={sig}"),
        format!("send pid={pid} sig={sig} n=0"),
        format!("send pid={pid} sig={sig} n=254"),
        format!("target pid={pid} sig=12"),
        format!("probe pid={pid} sig=0"),
        "open sig=31".to_owned(),
        format!("listen sig={sig}"),
        format!("unlisten sig={sig}"),
    ] {
        fails_clean(&mut sender, &mut target, &line, libc::EINVAL);
    }
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
}

#[test]
fn ebadf() {
    let (mut sender, mut target, pid, sig) = pair();
    for path in PATHS {
        // Opened before, so that nothing but the descriptor is wrong.
        sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
        target.ok(format!("recv sig={sig} ms=5000"));
        let line = format!("send pid={pid} sig={sig} paths={path} n=3 bad=9999");
        fails_clean(&mut sender, &mut target, &line, libc::EBADF);
    }
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
}

#[test]
fn esrch() {
    let (mut sender, mut target, pid, sig) = pair();
    let (mut other, _, _, _) = pair();
    for path in PATHS {
        sender.ok(format!("target pid={pid} sig={sig} paths={path}"));
        sender.ok("tsend");
        target.ok(format!("recv sig={sig} ms=5000"));
        sender.ok("untarget");
    }
    sender.ok(format!("target pid={pid} sig={sig} paths=pidfd"));
    target.kill();
    fails_clean(&mut sender, &mut other, "tsend", libc::ESRCH);
    fails_clean(&mut sender, &mut other, "tsend ms=100", libc::ESRCH);
    sender.ok("untarget");
    for path in PATHS {
        let line = format!("send pid={pid} sig={sig} paths={path}");
        fails_clean(&mut sender, &mut other, &line, libc::ESRCH);
        fails_clean(
            &mut sender,
            &mut other,
            &format!("{line} ms=1000"),
            libc::ESRCH,
        );
    }
    fails_clean(
        &mut sender,
        &mut other,
        &format!("probe pid={pid} sig={sig}"),
        libc::ESRCH,
    );
    // A pid above all that there can be.
    fails_clean(
        &mut sender,
        &mut other,
        &format!("send pid=1073741824 sig={sig}"),
        libc::ESRCH,
    );
}

#[test]
fn esrch_as_soon_as_it_dies() {
    let (mut sender, mut target, pid, _) = pair();
    let sig = signal(9);
    sender.tell(format!("send pid={pid} sig={sig} ms=60000"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    target.kill();
    assert!(matches!(sender.answer(), Answer::Error(libc::ESRCH, _)));
}

#[test]
fn esrch_for_a_zombie() {
    let (mut sender, _target, _, sig) = pair();
    let mut zombie = std::process::Command::new("true").spawn().expect("true");
    std::thread::sleep(std::time::Duration::from_millis(100));
    sender.fails(format!("send pid={} sig={sig}", zombie.id()), libc::ESRCH);
    zombie.wait().expect("reaped");
}

#[test]
fn econnrefused() {
    let (mut sender, mut target, pid, sig) = pair();
    let other = signal(9);
    for path in PATHS {
        let line = format!("send pid={pid} sig={other} paths={path}");
        let text = fails_clean(&mut sender, &mut target, &line, libc::ECONNREFUSED);
        assert!(text.contains("does not listen"), "{text}");
        // Having listened once does not count.
        sender.ok(format!("target pid={pid} sig={sig} paths={path}"));
        target.ok(format!("close sig={sig}"));
        fails_clean(&mut sender, &mut target, "tsend", libc::ECONNREFUSED);
        sender.ok("untarget");
        target.ok(format!("open sig={sig}"));
    }
}

#[test]
fn a_target_that_does_not_listen_is_left_alone() {
    let (mut sender, _target, _, sig) = pair();
    let mut bystander = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep");
    let pid = bystander.id();
    let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).expect("/proc");
    std::thread::sleep(std::time::Duration::from_millis(100));
    for sig in [sig, signal(1), 64] {
        for _ in 0..100 {
            sender.fails(format!("send pid={pid} sig={sig}"), libc::ECONNREFUSED);
        }
    }
    let status = status();
    assert!(status.contains("State:\tS"), "{status}");
    assert!(status.contains("SigPnd:\t0000000000000000"), "{status}");
    assert!(status.contains("ShdPnd:\t0000000000000000"), "{status}");
    assert_eq!(bystander.try_wait().expect("ours"), None);
    bystander.kill().expect("ours");
    bystander.wait().expect("ours");
}

#[test]
fn eagain_and_etimedout() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        target.fails(format!("recv sig={sig}"), libc::EAGAIN);
        target.fails(format!("recv sig={sig} ms=30"), libc::ETIMEDOUT);

        sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
        let line = format!("send pid={pid} sig={sig} paths={path}");
        let text = sender.fails(format!("{line} tag=1 times=100000"), libc::EAGAIN);
        let sent: u64 = word(&text.replace("after ", "after="), "after")
            .trim_end_matches(':')
            .parse()
            .expect("n");
        assert!(sent > 100, "{text}");
        fails_clean(&mut sender, &mut target, &line, libc::EAGAIN);
        let text = fails_clean(
            &mut sender,
            &mut target,
            &format!("{line} ms=30"),
            libc::ETIMEDOUT,
        );
        assert!(text.contains("room"), "{text}");
        // Somebody waits for room until there is some.
        sender.tell(format!("{line} tag={} ms=60000", sent + 1));
        for tag in 0..=sent + 1 {
            let answer = target.ok(format!("recv sig={sig} ms=5000"));
            assert_eq!(word(&answer, "tag"), tag.to_string());
            assert_eq!(word(&answer, "path"), path);
        }
        assert!(matches!(sender.answer(), Answer::Ok(_)));
        target.fails(format!("recv sig={sig}"), libc::EAGAIN);

        let line = format!("send pid={pid} sig={} paths={path} ms=30", signal(9));
        let text = fails_clean(&mut sender, &mut target, &line, libc::ETIMEDOUT);
        assert!(text.contains("listen"), "{text}");
    }
}

#[test]
fn a_timeout_covers_the_boot_of_the_target() {
    for path in PATHS {
        let (mut sender, mut target, pid, _) = pair();
        let sig = signal(9);
        sender.tell(format!(
            "send pid={pid} sig={sig} paths={path} ms=60000 tag=5"
        ));
        std::thread::sleep(std::time::Duration::from_millis(60));
        target.ok(format!("open sig={sig}"));
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=60000")), "tag"),
            "5"
        );
        assert!(matches!(sender.answer(), Answer::Ok(_)));
    }
}

#[test]
fn etoomanyrefs() {
    if !has_root() {
        return;
    }
    for path in PATHS {
        // The kernel lets root pass, so the sender is somebody else, with a limit of its own.
        let mut target = common::peer_as(1003);
        let mut sender = common::peer_as(1003);
        let (pid, sig) = (target.pid(), signal(0));
        target.ok(format!("open sig={sig}"));
        sender.ok("nofile n=40");
        sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
        let line = format!("send pid={pid} sig={sig} paths={path} n=5");
        let before = (sender.count(), target.count());
        let text = sender.fails(format!("{line} times=1000"), libc::ETOOMANYREFS);
        assert!(text.contains("RLIMIT_NOFILE"), "{text}");
        assert_eq!((sender.count(), target.count()), before);
    }
}

#[test]
fn emfile_of_the_sender() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        // Room for the passenger, not for reaching the target. Not a lower limit: it is compared with
        // what all processes of the user have in flight, those of other tests among them.
        sender.ok("nofile n=4096");
        sender.ok("fill leave=1");
        sender.fails(
            format!("send pid={pid} sig={sig} paths={path}"),
            libc::EMFILE,
        );
        sender.ok("unfill n=1");
        let before = (0, target.count());
        sender.fails(
            format!("send pid={pid} sig={sig} paths={path}"),
            libc::EMFILE,
        );
        assert_eq!((0, target.count()), before);
        sender.ok("unfill");
        let clean = sender.count();
        sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
        // Only the cached target was added.
        assert_eq!(sender.count(), clean + 1);
        target.ok(format!("recv sig={sig} ms=5000"));
    }
}

#[test]
fn emfile_when_opening_a_receiver() {
    let mut target = peer();
    let sig = signal(0);
    let before = target.count();
    target.ok("nofile n=64");
    target.ok("fill");
    // Whichever of its descriptors a receiver cannot have, those before are given back.
    for _ in 0..RECEIVER_COST {
        target.fails(format!("open sig={sig}"), libc::EMFILE);
        target.ok("unfill n=1");
    }
    target.ok(format!("open sig={sig}"));
    target.ok("unfill");
    assert_eq!(target.count(), before + RECEIVER_COST);
    target.ok(format!("close sig={sig}"));
    assert_eq!(target.count(), before);
}

#[test]
fn emsgsize() {
    let (mut sender, mut target, pid, sig) = pair();
    for path in PATHS {
        let line = format!("send pid={pid} sig={sig} paths={path} bytes=1048577");
        fails_clean(&mut sender, &mut target, &line, libc::EMSGSIZE);
        sender.ok(format!(
            "send pid={pid} sig={sig} paths={path} bytes=4096 n=253"
        ));
        let answer = target.ok(format!("recv sig={sig} ms=5000"));
        assert_eq!(word(&answer, "data").len(), 4096);
        assert_eq!(word(&answer, "fds").split(',').count(), 253);
    }
}

#[test]
fn data_in_a_memfd_leaves_nothing_behind() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        let to = |sig: i32| format!("send pid={pid} sig={sig} paths={path} bytes=5000");
        let (line, unheard) = (to(sig), to(signal(9)));
        sender.ok(&line);
        target.ok(format!("recv sig={sig} ms=20000"));
        for (line, errno) in [
            (format!("{line} n=253"), libc::EINVAL),
            (format!("{line} n=3 bad=9999"), libc::EBADF),
            (unheard.clone(), libc::ECONNREFUSED),
            (format!("{unheard} ms=30"), libc::ETIMEDOUT),
        ] {
            fails_clean(&mut sender, &mut target, &line, errno);
        }

        // No room in the target's queue.
        let before = (sender.count(), target.count());
        let text = sender.fails(format!("{line} times=100000"), libc::EAGAIN);
        let sent: u64 = word(&text.replace("after ", "after="), "after")
            .trim_end_matches(':')
            .parse()
            .expect("n");
        fails_clean(&mut sender, &mut target, &line, libc::EAGAIN);
        fails_clean(
            &mut sender,
            &mut target,
            &format!("{line} ms=30"),
            libc::ETIMEDOUT,
        );
        sender.tell(format!("{line} tag={sent} ms=60000"));
        for tag in 0..=sent {
            let answer = target.ok(format!("recv sig={sig} ms=20000"));
            assert_eq!(word(&answer, "tag"), tag.to_string());
            assert_eq!(word(&answer, "data").len(), 5000);
        }
        assert!(matches!(sender.answer(), Answer::Ok(_)));
        assert_eq!((sender.count(), target.count()), before);

        // No number for the memfd in the sender's table.
        sender.ok("nofile n=4096");
        sender.ok("fill leave=1");
        sender.fails(&line, libc::EMFILE);
        sender.ok("unfill n=1");
        sender.ok(&line);
        sender.ok("unfill");
        target.ok(format!("recv sig={sig} ms=20000"));
        assert_eq!((sender.count(), target.count()), before);

        // None in the receiver's: the message stays.
        target.ok("nofile n=64");
        sender.ok(&line);
        target.ok("fill leave=1");
        for _ in 0..3 {
            target.fails(format!("recv sig={sig} ms=20000"), libc::EMFILE);
        }
        target.ok("unfill n=1");
        let answer = target.ok(format!("recv sig={sig} ms=20000"));
        assert_eq!(word(&answer, "data").len(), 5000);
        target.ok("unfill");
        assert_eq!(target.ok(format!("dropped sig={sig}")), "0");
        assert_eq!((sender.count(), target.count()), before);

        // Nobody received it.
        sender.ok(format!("{line} times=3"));
        target.ok(format!("close sig={sig}"));
        assert_eq!(target.count(), before.1 - target_cost(path));
        target.kill();
        sender.fails(&line, libc::ESRCH);
    }
}

/// What a receiver owns that one sender came to.
fn target_cost(path: &str) -> usize {
    RECEIVER_COST + usize::from(path == "name")
}

#[test]
fn eaddrinuse() {
    let mut target = peer();
    let sig = signal(0);
    target.ok(format!("open sig={sig}"));
    let before = target.count();
    target.fails(format!("open sig={sig}"), libc::EADDRINUSE);
    target.fails(format!("listen sig={sig} how=blocked"), libc::EADDRINUSE);
    assert_eq!(target.count(), before);
    target.ok(format!("close sig={sig}"));
    target.ok(format!("listen sig={sig} how=blocked"));
    target.fails(format!("open sig={sig}"), libc::EADDRINUSE);
    target.ok(format!("unlisten sig={sig}"));
    target.ok(format!("open sig={sig}"));
}

#[test]
fn eopnotsupp() {
    let (mut sender, mut target, pid, sig) = pair();
    if has("a kernel without sendfd(2)", !has_call()) {
        for line in [
            format!("send pid={pid} sig={sig} paths=syscall"),
            format!("target pid={pid} sig={sig} paths=syscall ms=50"),
        ] {
            let text = fails_clean(&mut sender, &mut target, &line, libc::EOPNOTSUPP);
            assert!(text.contains("syscall"), "{text}");
        }
    }
    // An opened target does not change its path.
    sender.ok(format!("target pid={pid} sig={sig} paths=name"));
    fails_clean(
        &mut sender,
        &mut target,
        "tsend paths=pidfd",
        libc::EOPNOTSUPP,
    );
    sender.ok("tsend paths=name,pidfd");
    target.ok(format!("recv sig={sig} ms=5000"));
}
