//! Who is not let in, and who is and sends rubbish: neither keeps a receiver from its work.

mod common;

use std::os::fd::{AsFd, OwnedFd};

use common::{Fork, PATIENCE, connected, errno, header, lingering, port, send_raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sendfd_core::{Cause, Receiver, ReceiverOptions, SendOptions, Wait, send_with};
use sendfd_tests::{has, has_root, signal};

const OWNER: u32 = 1041;
const STRANGER: u32 = 1042;
const ADMITTED: u32 = 1043;

/// What one call deals with at most of what yields no message.
const PORTION: usize = 64;

/// A receiver of [`OWNER`] that admits [`ADMITTED`].
fn receiver() -> Receiver {
    let options = ReceiverOptions::new().uids(&[ADMITTED]);
    Receiver::open_with(port(), &options).expect("a receiver")
}

/// Has a child of another user send, without the library, what takes two minutes to close.
fn send_lingering(to: u32, uid: u32, ending: &'static str, bytes: Vec<u8>) -> Fork {
    let mut sender = Fork::run(move |line| {
        line.become_user(uid);
        let connection = connected(to, signal(0), ending).expect("anybody may connect");
        let (lingering, _peer) = lingering();
        send_raw(&connection, &bytes, &[lingering.as_fd()]).expect("sent");
        drop(lingering);
        line.say(0);
        // With it, the other end of what lingers.
        line.hear();
    });
    sender.hear();
    sender
}

fn forks_at_once() {
    // SAFETY: the child ends at once.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
    }
}

/// What takes long to close is closed in no thread of the program's, and under no lock that fork(2) takes.
#[test]
fn what_nobody_receives_is_closed_where_nobody_waits_for_it() {
    if !has_root() {
        return;
    }
    let good = header(signal(0), 1, 7).to_vec();
    let admitted = format!("/uid/{ADMITTED}");
    let admitted: &'static str = admitted.leak();
    for (uid, ending, bytes, looks) in [
        // Nobody who is let in, before and after it was seen that he connected.
        (STRANGER, "", good.clone(), true),
        (STRANGER, "", good.clone(), false),
        // Somebody who is, with what is no message, and with a message that nobody receives.
        (ADMITTED, admitted, b"rubbish".to_vec(), true),
        (ADMITTED, admitted, good.clone(), false),
    ] {
        let mut target = Fork::run(|line| {
            line.become_user(OWNER);
            let receiver = receiver();
            line.say(0);
            line.hear();
            if looks {
                let nothing = receiver.recv(Wait::Never).map_err(|error| error.cause());
                assert_eq!(nothing.err(), Some(Cause::Empty));
                assert_eq!(receiver.dropped(), u64::from(uid == ADMITTED));
                forks_at_once();
            }
            receiver.close();
            forks_at_once();
        });
        target.hear();
        let _sender = send_lingering(target.pid(), uid, ending, bytes);
        target.say(0);
        target.ends_well();
    }
}

fn has_ended(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).expect("polled");
    fds[0].revents().contains(PollFlags::HUP)
}

#[test]
fn one_call_turns_away_no_more_strangers_than_a_portion() {
    if !has_root() {
        return;
    }
    let mut target = Fork::run(|line| {
        line.become_user(OWNER);
        let receiver = receiver();
        line.say(0);
        while line.hear() == 0 {
            let nothing = receiver.recv(Wait::Never).map_err(|error| error.cause());
            assert_eq!(nothing.err(), Some(Cause::Empty));
            line.say(0);
        }
    });
    target.hear();
    let pid = target.pid();
    let mut strangers = Fork::run(|line| {
        line.become_user(STRANGER);
        let connect = |_| connected(pid, signal(0), "").expect("connected");
        let all: Vec<OwnedFd> = (0..500).map(connect).collect();
        line.say(0);
        while line.hear() == 0 {
            line.say(all.iter().filter(|socket| has_ended(socket)).count() as i64);
        }
    });
    strangers.hear();
    let mut before = 0;
    while before < 500 {
        target.say(0);
        target.hear();
        strangers.say(0);
        let now = strangers.hear();
        assert!(now > before, "none was turned away, of {before}");
        assert!(now - before <= PORTION as i64, "{now} after {before}");
        before = now;
    }
    target.say(1);
    strangers.say(1);
    target.ends_well();
    strangers.ends_well();
}

#[test]
fn one_call_drops_no_more_rubbish_than_a_portion() {
    if !has_root() {
        return;
    }
    const RECORDS: u64 = 200;
    let mut target = Fork::run(|line| {
        line.become_user(OWNER);
        let receiver = receiver();
        line.say(0);
        line.hear();
        let mut before = 0;
        while before < RECORDS {
            let nothing = receiver.recv(Wait::Never).map_err(|error| error.cause());
            assert_eq!(nothing.err(), Some(Cause::Empty));
            let now = receiver.dropped();
            assert!(
                now > before && now - before <= PORTION as u64,
                "{now} after {before}"
            );
            before = now;
        }
    });
    target.hear();
    let pid = target.pid();
    let mut sender = Fork::run(|line| {
        line.become_user(ADMITTED);
        let connection = connected(pid, signal(0), &format!("/uid/{ADMITTED}"));
        let connection = connection.expect("connected");
        for _ in 0..RECORDS {
            send_raw(&connection, b"rubbish", &[]).expect("sent");
        }
        line.say(0);
        line.hear();
    });
    sender.hear();
    target.say(0);
    target.ends_well();
}

/// All of it at once, as long as it takes an honest sender to be done.
#[test]
fn an_honest_sender_is_served_among_floods() {
    if !has_root() {
        return;
    }
    const MESSAGES: u64 = 2000;
    let mut target = Fork::run(|line| {
        line.become_user(OWNER);
        let receiver = receiver();
        line.say(0);
        let mut next = 0;
        while next < MESSAGES {
            match receiver.recv(Wait::Never) {
                Ok(message) => {
                    assert_eq!(message.tag, next);
                    next += 1;
                }
                Err(error) => assert_eq!(error.cause(), Cause::Empty),
            }
        }
    });
    target.hear();
    let pid = target.pid();
    let flood = |uid: u32, ending: &'static str, rubbish: bool| {
        Fork::run(move |line| {
            line.become_user(uid);
            loop {
                let connection = connected(pid, signal(0), ending);
                while rubbish
                    && connection
                        .as_ref()
                        .is_ok_and(|to| send_raw(to, b"x", &[]) != Err(rustix::io::Errno::PIPE))
                {
                }
            }
        })
    };
    let admitted: &'static str = format!("/uid/{ADMITTED}").leak();
    let floods = [flood(STRANGER, "", false), flood(ADMITTED, admitted, true)];
    let options = SendOptions::new().wait(Wait::For(PATIENCE));
    for tag in 0..MESSAGES {
        let sent = send_with(pid, port(), &[std::io::stderr().as_fd()], &options.tag(tag));
        assert_eq!(errno(sent), 0);
    }
    target.ends_well();
    drop(floods);
}

/// A receiver that is user `inner` in a user namespace of its own, in which nobody else has a number.
fn in_user_namespace(inner: u32) -> Option<Fork> {
    let mut target = Fork::run(move |line| {
        line.become_user(OWNER);
        // SAFETY: a plain call, of the only thread.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        line.say(i64::from(alone));
        if alone != 0 {
            return;
        }
        std::fs::write("/proc/self/setgroups", "deny").expect("written");
        for map in ["uid", "gid"] {
            let line = format!("{inner} {OWNER} 1");
            std::fs::write(format!("/proc/self/{map}_map"), line).expect("written");
        }
        // SAFETY: plain calls.
        unsafe {
            assert_eq!(libc::setresuid(inner, inner, inner), 0);
            assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
        }
        line.die_with_tester();
        let receiver = Receiver::open(port()).expect("a receiver");
        line.say(0);
        loop {
            line.hear();
            // What arrives, or after that what is dropped.
            let came = receiver.recv(Wait::Never).map_err(|error| error.cause());
            line.say(match came {
                Ok(message) => i64::from(message.sender.uid),
                Err(Cause::Empty) => -1 - receiver.dropped() as i64,
                Err(_) => i64::MIN,
            });
        }
    });
    if !has("userns", target.hear() == 0) {
        return None;
    }
    target.hear();
    Some(target)
}

/// Root has no number there: the receiver would drop what it sends.
#[test]
fn success_is_not_said_where_the_sender_is_nobody() {
    if !has_root() {
        return;
    }
    for inner in [0, 65_534] {
        let Some(mut target) = in_user_namespace(inner) else {
            return;
        };
        for paths in [
            sendfd_core::Paths::all(),
            sendfd_core::Paths::NAME,
            sendfd_core::Paths::PIDFD,
        ] {
            let options = SendOptions::new().paths(paths);
            let sent = send_with(target.pid(), port(), &[std::io::stderr().as_fd()], &options);
            assert_eq!(errno(sent), libc::EPERM, "{paths} to user {inner}");
        }
        target.say(0);
        assert_eq!(target.hear(), -1, "nothing was sent");
    }
}

/// All who have no number there look like one user, which may be the receiver's own.
#[test]
fn nobody_in_particular_is_not_let_in() {
    if !has_root() {
        return;
    }
    let Some(mut target) = in_user_namespace(65_534) else {
        return;
    };
    let pid = target.pid();
    Fork::run(|line| {
        line.become_user(STRANGER);
        let connection = connected(pid, signal(0), "").expect("connected");
        let header = header(signal(0), 1, 7);
        let fd = std::io::stderr();
        // He may find the connection closed already.
        let _ = send_raw(&connection, &header, &[fd.as_fd()]);
    })
    .ends_well();
    // Who is let in is received, or his record is dropped; who is not is turned away.
    target.say(0);
    assert_eq!(target.hear(), -1);
    // Its own user has that number, too, and is not told success.
    Fork::run(|line| {
        line.become_user(OWNER);
        let fd = std::io::stderr();
        let sent = send_with(pid, port(), &[fd.as_fd()], &SendOptions::new());
        assert_eq!(errno(sent), libc::EPERM);
    })
    .ends_well();
    target.say(0);
    assert_eq!(target.hear(), -1, "it was sent nothing");
}
