//! A table that is full loses nothing: with holes in it, with other threads and other receivers that fill it,
//! with a limit that is lowered. A message that is lost all the same is reported.

mod common;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Fork, PATHS, PATIENCE, limit_descriptors, path, port};
use sendfd_core::{
    Cause, Message, Paths, Port, Receiver, SendOptions, Target, TargetOptions, Wait, send_with,
};

fn duplicate() -> Option<OwnedFd> {
    std::io::stderr().as_fd().try_clone_to_owned().ok()
}

/// One low number is free in a table that is full.
#[test]
fn one_hole_has_room_for_one() {
    // Below and above what the library takes for tight.
    for (limit, name) in [
        (1024, "pidfd"),
        (8192, "pidfd"),
        (1024, "name"),
        (8192, "name"),
    ] {
        Fork::run(|_| {
            limit_descriptors(0, limit);
            let receiver = Receiver::open(port()).expect("a receiver");
            let options = TargetOptions::new().paths(path(name));
            let target = Target::open_with(std::process::id(), port(), &options);
            let target = target.expect("a target");
            let send = |tag| {
                let fds = [std::io::stderr()];
                target
                    .send(&[fds[0].as_fd()], &patient().tag(tag))
                    .expect("sent");
            };
            // Once, so that the receiver has seen a table with room.
            send(0);
            drop(receiver.recv(Wait::Never).expect("a message"));
            let hole = duplicate();
            let mut filler: Vec<_> = std::iter::from_fn(duplicate).collect();
            drop(hole);
            (1..=3).for_each(send);
            let first = receiver.recv(Wait::Never).expect("it fits into the hole");
            assert_eq!(first.tag, 1);
            for _ in 0..3 {
                let full = receiver.recv(Wait::Never).map_err(|error| error.cause());
                assert_eq!(full.err(), Some(Cause::TableFull));
            }
            filler.truncate(100);
            for tag in 2..=3 {
                assert_eq!(receiver.recv(Wait::Never).expect("a message").tag, tag);
            }
            assert_eq!(receiver.dropped(), 0);
        })
        .ends_well();
    }
}

/// How many descriptors a user may have in flight is the sender's limit, for all that tests send at the same time.
fn patient() -> SendOptions<'static> {
    SendOptions::new().wait(Wait::For(PATIENCE))
}

const MESSAGES: u64 = 8000;

/// Sends numbered messages of `fds` descriptors each, until there were enough.
fn sender(to: u32, port: Port, paths: Paths, fds: usize) -> Fork {
    Fork::run(move |line| {
        line.hear();
        limit_descriptors(0, 20_000);
        let options = TargetOptions::new().paths(paths);
        let target = Target::open_with(to, port, &options).expect("a target");
        let passenger = duplicate().expect("a duplicate");
        let fds: Vec<BorrowedFd<'_>> = vec![passenger.as_fd(); fds];
        for tag in 0..MESSAGES {
            let options = patient().tag(tag);
            target.send(&fds, &options).expect("sent");
        }
    })
}

/// Receives them, keeps what it has room for, and lets half of it go whenever the table is full. Returns how
/// many did not come, and of how many it was told that they are lost.
fn receive(receiver: &Receiver) -> (u64, u64) {
    let (mut kept, mut next, mut missing, mut told) = (VecDeque::new(), 0, 0, 0);
    while next < MESSAGES {
        match receiver.recv(Wait::For(PATIENCE)) {
            Ok(message) => {
                let message: Message = message;
                assert!(message.tag >= next, "{} after {next}", message.tag);
                missing += message.tag - next;
                next = message.tag + 1;
                kept.push_back(message.fds);
            }
            Err(error) => match error.cause() {
                Cause::TableFull => drop(kept.drain(..kept.len().div_ceil(2))),
                Cause::CutShort => told += 1,
                // The last ones were.
                Cause::NeverCame if told > missing => {
                    missing += MESSAGES - next;
                    break;
                }
                _ => panic!("{error}"),
            },
        }
    }
    (missing, told)
}

/// Opens and closes descriptors by the hundred, so that the table is now nearly empty and now full.
fn agitate(seed: u64, done: &AtomicUsize, of: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut held = Vec::new();
    while done.load(Ordering::Relaxed) < of {
        held.extend(std::iter::from_fn(duplicate).take(random.usize(..2500)));
        std::thread::yield_now();
        random.shuffle(&mut held);
        held.truncate(random.usize(..=held.len()));
    }
}

#[test]
fn what_other_threads_and_receivers_do_to_the_table_loses_nothing() {
    let ports = [0, 1].map(|n| Port::new(n).expect("a port"));
    let mut target = Fork::run(|line| {
        // The library takes some on trust in a table of this size.
        limit_descriptors(0, 6000);
        let receivers = ports.map(|port| Receiver::open(port).expect("a receiver"));
        line.say(0);
        let done = AtomicUsize::new(0);
        let lost = std::thread::scope(|scope| {
            let done = &done;
            (0..2).for_each(|seed| drop(scope.spawn(move || agitate(seed, done, 2))));
            let each = receivers.each_ref().map(|receiver| {
                scope.spawn(|| {
                    let lost = receive(receiver);
                    done.fetch_add(1, Ordering::Relaxed);
                    lost
                })
            });
            each.map(|thread| thread.join().expect("no panic"))
        });
        for (receiver, (missing, told)) in receivers.iter().zip(lost) {
            // Nothing at all, but where a thread is kept from running at the wrong moment for long.
            assert_eq!((missing, receiver.dropped()), (told, told));
            assert!(missing < MESSAGES / 100, "{missing} of {MESSAGES}");
        }
    });
    target.hear();
    let mut senders = [(ports[0], Paths::PIDFD, 1), (ports[1], Paths::NAME, 20)]
        .map(|(port, paths, fds)| sender(target.pid(), port, paths, fds));
    senders.iter_mut().for_each(|sender| sender.say(0));
    target.ends_well();
}

#[test]
fn a_limit_that_is_lowered_while_receiving_loses_nothing_unsaid() {
    for name in PATHS {
        let mut target = Fork::run(|line| {
            limit_descriptors(0, 6000);
            let receiver = Receiver::open(port()).expect("a receiver");
            line.say(0);
            let (missing, told) = receive(&receiver);
            assert_eq!((missing, receiver.dropped()), (told, told));
        });
        target.hear();
        let mut sender = sender(target.pid(), port(), path(name), 1);
        sender.say(0);
        let over = AtomicBool::new(false);
        let pid = target.pid();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for limit in [40, 6000] {
                        limit_descriptors(pid, limit);
                        std::thread::sleep(Duration::from_micros(300));
                    }
                }
            });
            sender.ends_well();
            // It may still be at work; the limit is left alone before it is gone.
            over.store(true, Ordering::Relaxed);
        });
        limit_descriptors(pid, 6000);
        target.ends_well();
    }
}

/// A message of more descriptors than the process can have is refused, and what is behind it goes on: also if it
/// carries something that takes long to close.
#[test]
fn what_can_never_fit_makes_nobody_wait() {
    for (name, given_up) in [
        ("pidfd", false),
        ("name", false),
        ("pidfd", true),
        ("name", true),
    ] {
        let mut target = Fork::run(|line| {
            limit_descriptors(0, 64);
            let receiver = Receiver::open(port()).expect("a receiver");
            let mut filler: Vec<_> = std::iter::from_fn(duplicate).collect();
            // Room for a connection, or for everything but what the receiver has itself.
            filler.truncate(if given_up { filler.len() - 1 } else { 0 });
            line.say(0);
            line.hear();
            let refused = receiver
                .recv(Wait::For(PATIENCE))
                .map_err(|error| error.cause());
            if given_up {
                // It would fit, but for what the process has open.
                assert_eq!(refused.err(), Some(Cause::TableFull));
                assert!(receiver.discard().expect("discarded"));
                assert!(!receiver.discard().expect("asked"));
            } else {
                assert_eq!(refused.err(), Some(Cause::NeverFits { fds: 62 }));
            }
            drop(filler);
            // SAFETY: it ends at once.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            line.say(1);
            line.hear();
            // Not of the sender whose message still lingers: by the other path.
            assert_eq!(
                receiver.recv(Wait::For(PATIENCE)).expect("a message").tag,
                2
            );
            assert_eq!(receiver.dropped(), 1);
            receiver.close();
        });
        target.hear();
        let (lingering, peer) = common::lingering();
        let count = if given_up { 30 } else { 62 };
        let fds = vec![lingering.as_fd(); count];
        let options = patient().paths(path(name)).tag(1);
        send_with(target.pid(), port(), &fds, &options).expect("sent");
        drop(fds);
        drop(lingering);
        target.say(0);
        assert_eq!(target.hear(), 1);
        let other = PATHS.into_iter().find(|other| *other != name).expect("two");
        let options = patient().paths(path(other)).tag(2);
        send_with(target.pid(), port(), &[std::io::stderr().as_fd()], &options).expect("sent");
        target.say(0);
        target.ends_well();
        drop(peer);
    }
}

/// Those who connect leave a number free for what they send.
#[test]
fn two_free_numbers_serve_all_who_connect() {
    const SENDERS: usize = 4;
    let mut target = Fork::run(|line| {
        limit_descriptors(0, 256);
        let receiver = Receiver::open(port()).expect("a receiver");
        let mut filler: Vec<_> = std::iter::from_fn(duplicate).collect();
        filler.truncate(filler.len() - 2);
        line.say(0);
        // All wait at the listener.
        line.hear();
        let mut came = 0;
        while came < SENDERS {
            match receiver
                .recv(Wait::For(PATIENCE))
                .map_err(|error| error.cause())
            {
                Ok(_) => came += 1,
                Err(Cause::TableFull) => line.say(1),
                Err(cause) => panic!("{cause:?} after {came}"),
            }
            assert_eq!(receiver.dropped(), 0);
        }
        line.say(2);
    });
    target.hear();
    let pid = target.pid();
    let senders = (0..SENDERS).map(|_| {
        Fork::run(|line| {
            let options = patient().paths(path("name"));
            let fd = std::io::stderr();
            send_with(pid, port(), &[fd.as_fd()], &options).expect("sent");
            line.say(0);
            line.hear();
        })
    });
    let mut senders: Vec<_> = senders.collect();
    senders.iter_mut().for_each(|sender| {
        sender.hear();
    });
    target.say(0);
    let full = std::iter::from_fn(|| (target.hear() == 1).then_some(()));
    // Each that is told makes some progress.
    assert!(full.take(1000).count() < 1000, "full for ever");
    target.ends_well();
    senders.iter_mut().for_each(|sender| sender.say(0));
}
