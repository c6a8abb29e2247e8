//! Inboxes in unusual circumstances: shut down by somebody who fetched them, read without recvmmsg(2), in a thread
//! with a table of its own.

mod common;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use common::{Fork, PATIENCE, errno, limit_descriptors, path, port};
use rustix::net::{Shutdown, shutdown};
use sendfd_core::{
    Cause, Message, Paths, Receiver, SendOptions, Target, TargetOptions, Wait, send_with,
};
use sendfd_tests::signal;

/// The sending end of a receiver, as whoever may trace its process gets it.
fn fetch_sending_end(pid: u32) -> OwnedFd {
    let marker = format!("/memfd:sendfd:1:{}:", signal(0));
    let table = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    let mut links = table
        .flatten()
        .flat_map(|entry| std::fs::read_link(entry.path()));
    let number = links.find_map(|link| {
        let words = link.to_str()?.strip_prefix(&marker)?.split(':').next()?;
        words.parse::<i32>().ok()
    });
    let number = number.expect("a marker");
    // SAFETY: numbers, and new descriptors or -1.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        let process = OwnedFd::from_raw_fd(process);
        let end = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) as i32;
        assert!(end >= 0, "it may be fetched");
        OwnedFd::from_raw_fd(end)
    }
}

/// Somebody of the receiver's own user shuts its inbox down for all.
#[test]
fn an_inbox_that_was_shut_down_is_told_and_made_anew() {
    for how in [Shutdown::Write, Shutdown::Both] {
        let mut target = Fork::run(|line| {
            let receiver = Receiver::open(port()).expect("a receiver");
            line.say(0);
            loop {
                let wait = if line.hear() == 0 {
                    Wait::Never
                } else {
                    Wait::For(PATIENCE)
                };
                line.say(match receiver.recv(wait) {
                    Ok(message) => message.tag as i64,
                    Err(error) => -i64::from(error.raw_os_error()),
                });
            }
        });
        target.hear();
        let pid = target.pid();
        let by = |paths: Paths, tag: u64, wait: Wait| {
            let options = SendOptions::new().paths(paths).tag(tag).wait(wait);
            send_with(pid, port(), &[std::io::stderr().as_fd()], &options)
        };
        let options = TargetOptions::new().paths(Paths::PIDFD);
        let opened = Target::open_with(pid, port(), &options).expect("a target");
        let send = |tag| opened.send(&[std::io::stderr().as_fd()], &SendOptions::new().tag(tag));
        send(1).expect("sent");
        by(Paths::all(), 2, Wait::Never).expect("sent");

        let end = fetch_sending_end(pid);
        shutdown(&end, how).expect("shut down");
        for refused in [send(0), by(Paths::PIDFD, 0, Wait::Never)] {
            let refused = refused.expect_err("nobody gets it");
            assert_eq!(refused.cause(), Cause::InboxLost, "{refused}");
            assert_eq!(refused.raw_os_error(), libc::EAGAIN);
        }
        // There is another path, also for who went by this one before.
        by(Paths::all(), 3, Wait::Never).expect("sent");

        // What had arrived is received, and the rest, and then all is as it was.
        let mut came: Vec<i64> = Vec::new();
        while came.len() < 3 {
            target.say(1);
            came.push(target.hear());
        }
        came.sort_unstable();
        assert_eq!(came, [1, 2, 3]);
        target.say(0);
        assert_eq!(target.hear(), -i64::from(libc::EAGAIN));
        send(4).expect("sent to the new one");
        by(Paths::PIDFD, 5, Wait::Never).expect("sent");
        for tag in 4..=5 {
            target.say(1);
            assert_eq!(target.hear(), tag);
        }

        // Who waits, waits until the receiver looks.
        let end = fetch_sending_end(pid);
        shutdown(&end, how).expect("shut down");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| by(Paths::PIDFD, 6, Wait::For(PATIENCE)));
            target.say(1);
            assert_eq!(target.hear(), 6);
            assert_eq!(errno(waits.join().expect("no panic")), 0);
        });
    }
}

#[test]
fn where_recvmmsg_is_refused_messages_are_taken_one_by_one() {
    for refusal in [libc::ENOSYS, libc::EPERM] {
        for name in common::PATHS {
            Fork::run(|_| {
                // So many are free that several would be taken at once.
                limit_descriptors(0, 16_384);
                use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
                let rules = [(libc::SYS_recvmmsg, vec![])].into_iter().collect();
                let arch = std::env::consts::ARCH.try_into().expect("an architecture");
                let refuse = SeccompAction::Errno(refusal as u32);
                let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
                let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
                seccompiler::apply_filter(&program).expect("seccomp");

                let receiver = Receiver::open(port()).expect("a receiver");
                let options = TargetOptions::new().paths(path(name));
                let target = Target::open_with(std::process::id(), port(), &options);
                let target = target.expect("a target");
                for tag in 0..100 {
                    let options = SendOptions::new().tag(tag);
                    target
                        .send(&[std::io::stderr().as_fd()], &options)
                        .expect("sent");
                }
                let mut tags = Vec::new();
                while tags.len() < 50 {
                    tags.push(receiver.recv(Wait::Never).expect("a message").tag);
                }
                let mut rooms: Vec<Message> = (0..8).map(|_| Message::default()).collect();
                while tags.len() < 100 {
                    let count = receiver.recv_many(&mut rooms, Wait::Never).expect("some");
                    tags.extend(rooms[..count].iter().map(|message| message.tag));
                }
                assert_eq!(tags, (0..100).collect::<Vec<_>>());
                let nothing = receiver.recv(Wait::Never).map_err(|error| error.cause());
                assert_eq!(nothing.err(), Some(Cause::Empty));
            })
            .ends_well();
        }
    }
}

/// What a process has open is looked for in the table of its main thread.
#[test]
fn a_receiver_in_a_thread_with_its_own_table_is_reached_by_name() {
    let mut target = Fork::run(|line| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: a plain call.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
                let receiver = Receiver::open(port()).expect("a receiver");
                line.say(0);
                for _ in 0..2 {
                    receiver.recv(Wait::For(PATIENCE)).expect("a message");
                }
            });
        });
    });
    target.hear();
    let by = |paths: Paths| {
        let options = SendOptions::new().paths(paths);
        errno(send_with(
            target.pid(),
            port(),
            &[std::io::stderr().as_fd()],
            &options,
        ))
    };
    assert_eq!(by(Paths::PIDFD), libc::ECONNREFUSED);
    assert_eq!([by(Paths::NAME), by(Paths::all())], [0, 0]);
    target.ends_well();
}
