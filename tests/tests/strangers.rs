//! Who is not let in, and who is and sends rubbish: neither keeps a receiver from its work.

mod common;

use std::os::fd::{AsFd, OwnedFd};

use common::{Fork, PATIENCE, connected, errno, header, lingering, port, send_raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sendfd_core::{Cause, Paths, Receiver, ReceiverOptions, SendOptions, Wait, send_with};
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

/// A receiver in a user namespace of its own, in which the users of `map` have numbers and it is user
/// `inner`. Without an `inner` it stays who it was, opens before and has no map.
fn in_user_namespace(inner: Option<u32>, map: &str, named: &[u32]) -> Option<Fork> {
    let open = || {
        let options = ReceiverOptions::new().uids(named);
        Receiver::open_with(port(), &options).expect("a receiver")
    };
    let mut target = Fork::run(|line| {
        line.become_user(OWNER);
        let before = inner.is_none().then(open);
        // SAFETY: a plain call, of the only thread.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        line.say(i64::from(alone));
        if alone != 0 {
            return;
        }
        line.hear();
        if let Some(inner) = inner {
            // SAFETY: a plain call.
            assert_eq!(unsafe { libc::setresuid(inner, inner, inner) }, 0);
        }
        // SAFETY: a plain call.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) }, 0);
        line.die_with_tester();
        let receiver = before.unwrap_or_else(open);
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
    if inner.is_some() {
        for file in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{file}", target.pid()), map).expect("written");
        }
    }
    target.say(0);
    target.hear();
    Some(target)
}

/// The map in which only the receiver has a number.
fn alone(inner: u32) -> String {
    format!("{inner} {OWNER} 1")
}

/// What `send` is told that user `uid` does.
fn told(pid: u32, uid: u32, paths: Paths) -> i32 {
    let mut sender = Fork::run(|line| {
        line.become_user(uid);
        let options = SendOptions::new().paths(paths);
        let sent = send_with(pid, port(), &[std::io::stderr().as_fd()], &options);
        line.say(errno(sent).into());
    });
    let told = sender.hear();
    sender.ends_well();
    i32::try_from(told).expect("an errno")
}

/// A container's receiver names a user by its own number for that one.
#[test]
fn who_is_named_is_meant_by_the_receiver_s_number() {
    if !has_root() {
        return;
    }
    let Some(mut target) = in_user_namespace(Some(7), "0 100000 65536", &[5]) else {
        return;
    };
    for paths in [Paths::all(), Paths::NAME] {
        assert_eq!(told(target.pid(), 100_005, paths), 0);
        target.say(0);
        assert_eq!(target.hear(), 5);
        // Outside, this is somebody else.
        assert_eq!(told(target.pid(), 5, paths), libc::EPERM);
        assert_eq!(told(target.pid(), 100_006, paths), libc::EPERM);
        target.say(0);
        assert_eq!(target.hear(), -1, "nothing was sent");
    }
}

/// Root has no number there: the receiver would drop what it sends.
#[test]
fn success_is_not_said_where_the_sender_is_nobody() {
    if !has_root() {
        return;
    }
    for inner in [0, 65_534] {
        let Some(mut target) = in_user_namespace(Some(inner), &alone(inner), &[]) else {
            return;
        };
        for paths in [Paths::all(), Paths::NAME, Paths::PIDFD] {
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
    // The second went there when it was open already.
    for inner in [Some(65_534), None] {
        let map = inner.map(alone).unwrap_or_default();
        let Some(mut target) = in_user_namespace(inner, &map, &[]) else {
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
        assert_eq!(told(pid, OWNER, Paths::all()), libc::EPERM);
        target.say(0);
        assert_eq!(target.hear(), -1, "it was sent nothing");
    }
}
