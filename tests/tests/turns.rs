//! Who gets a turn: a quiet sender among busy ones, a patient one among greedy ones, and nobody for ever.

mod common;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::{Fork, PATHS, PATIENCE, errno, path, peer, port};
use sendfd_core::{Cause, Receiver, SendOptions, Target, TargetOptions, Wait};
use sendfd_tests::{Answer, Peer, child_of, has, has_root, signal, word};

fn open_by(pid: u32, name: &str) -> Target {
    let options = TargetOptions::new().paths(path(name));
    Target::open_with(pid, port(), &options).expect("a target")
}

/// Sends without waiting. Whether there was room.
fn send(target: &Target, tag: u64) -> bool {
    match errno(target.send(&[std::io::stderr().as_fd()], &SendOptions::new().tag(tag))) {
        0 => true,
        libc::EAGAIN => false,
        other => panic!("errno {other}"),
    }
}

const BUSY: u64 = 1;
const QUIET: u64 = 2;

/// However many are there whenever the receiver looks, the other path has its turn after some of them.
#[test]
fn a_quiet_sender_by_one_path_is_heard_among_busy_ones_by_the_other() {
    for busy in PATHS {
        for wait in [Wait::For(PATIENCE), Wait::Never] {
            Fork::run(|_| {
                let receiver = Receiver::open(port()).expect("a receiver");
                let quiet = if busy == "name" { "pidfd" } else { "name" };
                let pid = std::process::id();
                let (many, one) = (open_by(pid, busy), open_by(pid, quiet));
                let receive = || {
                    // Its queue is never empty.
                    while send(&many, BUSY) {}
                    receiver.recv(wait).expect("there is always one").tag
                };
                for _ in 0..3 {
                    // Warm: it is used to the one path.
                    (0..300).for_each(|_| assert_eq!(receive(), BUSY));
                    assert!(send(&one, QUIET));
                    let before = (0..2000).take_while(|_| receive() == BUSY).count();
                    assert!(before < 1000, "{before} busy ones before it");
                }
            })
            .ends_well();
        }
    }
}

/// All that a receiver in a pid namespace of its own cannot see have the same pid there, and are not one process.
#[test]
fn who_cannot_be_seen_does_not_wait_for_others_who_cannot() {
    if !has_root() {
        return;
    }
    let restricted = env!("CARGO_BIN_EXE_restricted");
    let mut command = std::process::Command::new(restricted);
    let mut receiver = Peer::start_command(command.args(["pidns", "--", common::PROGRAM]));
    let sig = signal(0);
    let opened = receiver.ask_if_alive(&format!("open sig={sig}"));
    if !has("pidns", matches!(opened, Some(Answer::Ok(_)))) {
        return;
    }
    let pid = child_of(receiver.pid());
    let (mut busy, mut quiet) = (peer(), peer());
    let line = format!("send pid={pid} sig={sig} paths=name");
    busy.ok(format!("{line} tag={BUSY} times=100"));
    quiet.ok(format!("{line} tag={QUIET}"));
    let mut before = 0;
    loop {
        let message = receiver.ok(format!("recv sig={sig} ms=60000"));
        assert_eq!(word(&message, "pid"), "0");
        if word(&message, "tag") == QUIET.to_string() {
            break;
        }
        before += 1;
        assert!(before < 1000, "{before} busy ones before it");
        // Its connection is never empty.
        busy.ok(format!("{line} tag={BUSY}"));
    }
}

/// Room in a queue is announced when three quarters of it are free, which does not happen while others fill it
/// again: who waits for room looks for it, too.
#[test]
fn a_sender_that_waits_for_room_gets_some_of_it_among_greedy_ones() {
    for name in PATHS {
        Fork::run(|_| {
            let receiver = Receiver::open(port()).expect("a receiver");
            let target = open_by(std::process::id(), name);
            while send(&target, BUSY) {}
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    let options = SendOptions::new().tag(QUIET).wait(Wait::For(PATIENCE));
                    let start = Instant::now();
                    let sent = target.send(&[std::io::stderr().as_fd()], &options);
                    (errno(sent), start.elapsed())
                });
                while !waiting.is_finished() {
                    receiver.recv(Wait::Never).expect("the queue is full");
                    // There is room for one for so long, and then for none.
                    std::thread::sleep(Duration::from_millis(20));
                    while send(&target, BUSY) {}
                }
                assert_eq!(waiting.join().expect("no panic").0, 0);
            });
        })
        .ends_well();
    }
}

/// A connection whose sender is gone is not reported for ever, though a child has a copy of it.
#[test]
fn a_connection_that_has_ended_is_not_seen_again_though_a_child_has_a_copy() {
    let mut target = Fork::run(|line| {
        let receiver = Receiver::open(port()).expect("a receiver");
        line.say(0);
        receiver.recv(Wait::For(PATIENCE)).expect("a message");
        // SAFETY: it has copies of all descriptors, runs no handlers and nothing else, and is killed.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            line.die_with_tester();
            loop {
                std::thread::sleep(PATIENCE);
            }
        }
        line.say(1);
        line.hear();
        for _ in 0..3 {
            let nothing = receiver.recv(Wait::Never).map_err(|error| error.cause());
            assert_eq!(nothing.err(), Some(Cause::Empty));
        }
        let mut fds = [rustix::event::PollFd::new(
            &receiver,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut fds, Some(&now)).expect("polled");
        // SAFETY: our own child.
        unsafe {
            libc::kill(child as i32, libc::SIGKILL);
            libc::waitpid(child as i32, std::ptr::null_mut(), 0);
        }
        assert_eq!(ready, 0);
    });
    target.hear();
    let pid = target.pid();
    let mut sender = Fork::run(|line| {
        let target = open_by(pid, "name");
        assert!(send(&target, 0));
        line.hear();
    });
    assert_eq!(target.hear(), 1);
    sender.say(0);
    sender.ends_well();
    target.say(0);
    target.ends_well();
}
