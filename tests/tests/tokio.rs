//! Receiving and sending in a tokio runtime: nothing is lost by dropping a future, nothing blocks.
//!
//! The processes send to themselves, each test at a port of its own.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use sendfd_core::tokio::{Receiver, open_target, send_to, send_with};
use sendfd_core::{Cause, Message, Path, Port, SendOptions, Target, TargetOptions, Wait, WaitFor};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Long enough for any machine.
const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

fn port(number: u32) -> Port {
    Port::new(number).expect("a port")
}

fn own() -> u32 {
    std::process::id()
}

fn passenger() -> OwnedFd {
    rustix::fs::memfd_create(c"passenger", MemfdFlags::CLOEXEC).expect("a memfd")
}

fn inode(fd: impl AsFd) -> u64 {
    rustix::fs::fstat(fd).expect("open").st_ino
}

/// With one thread and with several.
fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build(),
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build(),
    ]
    .map(|runtime| runtime.expect("a runtime"))
}

fn cause<T>(result: sendfd_core::Result<T>) -> Option<Cause> {
    result.err().map(|error| error.cause())
}

/// Sends messages that carry the numbers from 0 on as tags, from a thread that may block.
fn send_from_thread(port: Port, path: Path, count: u64) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let options = TargetOptions::new().paths(path).wait(PATIENCE);
        let target = Target::open_with(own(), port, &options).expect("a target");
        let fd = passenger();
        for tag in 0..count {
            let options = SendOptions::new().wait(PATIENCE).tag(tag);
            target.send(&[fd.as_fd()], &options).expect("sent");
        }
    })
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    const COUNT: u64 = 5_000;
    for (nth, runtime) in (0..).zip(runtimes()) {
        runtime.block_on(async {
            for path in [Path::Pidfd, Path::Name] {
                let mut receiver = Receiver::open(port(nth)).expect("a receiver");
                let sender = send_from_thread(receiver.get_ref().port(), path, COUNT);
                let (mut expected, mut dropped) = (0, 0);
                while expected < COUNT {
                    // Whichever is ready, select! looks at in random order, and drops the other.
                    let message: Message = tokio::select! {
                        message = receiver.recv() => message.expect("a message"),
                        () = yield_now() => {
                            dropped += 1;
                            tokio::select! {
                                message = receiver.next() => {
                                    message.expect("open").expect("a message")
                                }
                                () = yield_now() => {
                                    dropped += 1;
                                    continue;
                                }
                            }
                        }
                    };
                    assert_eq!((message.tag, message.fds.len()), (expected, 1));
                    expected += 1;
                }
                assert!(dropped > 0);
                sender.join().expect("no panic");
            }
        });
    }
}

#[test]
fn tasks_share_a_receiver() {
    const COUNT: u64 = 2_000;
    for (nth, runtime) in (2..).zip(runtimes()) {
        runtime.block_on(async {
            let receiver = std::sync::Arc::new(Receiver::open(port(nth)).expect("a receiver"));
            let sender = send_from_thread(port(nth), Path::Name, COUNT);
            let tasks = [0; 3].map(|_| {
                let receiver = std::sync::Arc::clone(&receiver);
                tokio::spawn(async move {
                    let mut tags = Vec::new();
                    loop {
                        match receiver.recv().await {
                            Ok(message) => tags.push(message.tag),
                            Err(error) if error.cause() == Cause::Retired => break tags,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            });
            while !sender.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            receiver.get_ref().retire().expect("retired");
            let mut all = Vec::new();
            for task in tasks {
                let tags = task.await.expect("no panic");
                assert!(tags.is_sorted());
                all.extend(tags);
            }
            all.sort_unstable();
            assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_stream_ends_after_retiring_and_fails_once_after_closing() {
    for runtime in runtimes() {
        runtime.block_on(async {
            let mut receiver = Receiver::open(port(4)).expect("a receiver");
            let fd = passenger();
            let options = SendOptions::new();
            send_with(own(), port(4), &[fd.as_fd()], &options)
                .await
                .expect("sent");
            receiver.get_ref().retire().expect("retired");
            let next = Receiver::open(port(4)).expect("the port is free");
            assert_eq!(
                receiver
                    .next()
                    .await
                    .expect("a message")
                    .expect("good")
                    .fds
                    .len(),
                1
            );
            assert!(receiver.next().await.is_none());
            assert!(receiver.next().await.is_none());
            assert_eq!(cause(receiver.recv().await), Some(Cause::Retired));

            let mut receiver = next;
            receiver.get_ref().close();
            let error = receiver.next().await.expect("an error");
            assert_eq!(cause(error), Some(Cause::Closed));
            assert!(receiver.next().await.is_none());
        });
    }
}

#[test]
fn closing_wakes_who_waits() {
    for (nth, runtime) in (5..).zip(runtimes()) {
        runtime.block_on(async {
            let receiver = std::sync::Arc::new(Receiver::open(port(nth)).expect("a receiver"));
            let waiting = tokio::spawn({
                let receiver = std::sync::Arc::clone(&receiver);
                async move { cause(receiver.recv().await) }
            });
            yield_now().await;
            receiver.get_ref().close();
            assert_eq!(waiting.await.expect("no panic"), Some(Cause::Closed));
        });
    }
}

/// In a runtime of one thread the receiver could not open if the send blocked that thread.
#[test]
fn a_send_waits_for_a_boot_with_what_the_number_meant() {
    for (nth, runtime) in (7..).zip(runtimes()) {
        runtime.block_on(async {
            let fd = passenger();
            let meant = inode(&fd);
            let options = SendOptions::new().wait(PATIENCE);
            let sending = send_with(own(), port(nth), &[fd.as_fd()], &options);
            // Before it was polled even once, the number comes to mean another file.
            let other = passenger();
            // SAFETY: `fd` goes on owning the number, with another file behind it.
            assert!(unsafe { libc::dup2(other.as_raw_fd(), fd.as_raw_fd()) } >= 0);
            let sending = tokio::spawn(sending);
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(!sending.is_finished());
            let receiver = Receiver::open(port(nth)).expect("a receiver");
            let message = receiver.recv().await.expect("a message");
            assert_eq!(inode(&message.fds[0]), meant);
            sending.await.expect("no panic").expect("sent");
        });
    }
}

#[test]
fn a_send_that_waits_for_room_lets_others_run_and_is_nothing_when_dropped() {
    const COUNT: u64 = 2_000;
    for (nth, runtime) in (9..).zip(runtimes()) {
        for path in [Path::Pidfd, Path::Name] {
            runtime.block_on(async {
                let receiver = Receiver::open(port(nth)).expect("a receiver");
                let options = TargetOptions::new().paths(path);
                let target = open_target(own(), port(nth), &options)
                    .await
                    .expect("a target");
                let sending = async {
                    let fd = passenger();
                    let mut dropped = 0;
                    for tag in 0..COUNT {
                        let options = SendOptions::new().wait(Wait::Forever).tag(tag);
                        // Where dropping one had sent it, or the message after it came first, the
                        // receiver would see a tag twice or out of order.
                        loop {
                            let one = send_to(&target, &[fd.as_fd()], &options);
                            tokio::select! {
                                sent = one => break sent.expect("sent"),
                                () = yield_now() => dropped += 1,
                            }
                        }
                    }
                    assert!(dropped > 0);
                };
                let receiving = async {
                    for tag in 0..COUNT {
                        if tag % 500 == 0 {
                            // The queue fills up.
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        assert_eq!(receiver.recv().await.expect("a message").tag, tag);
                    }
                };
                tokio::join!(sending, receiving);
                let empty = receiver.get_ref().recv(Wait::Never);
                assert_eq!(cause(empty), Some(Cause::Empty));
            });
        }
    }
}

#[test]
fn how_long_a_send_waits_is_the_callers_to_say() {
    let [runtime, _] = runtimes();
    runtime.block_on(async {
        let fd = passenger();
        let send = |options: SendOptions<'static>| {
            let sending = send_with(own(), port(20), &[fd.as_fd()], &options);
            async { cause(sending.await) }
        };
        let short = Wait::For(Duration::from_millis(20));
        let options = SendOptions::new();
        assert_eq!(send(options).await, Some(Cause::NotListening));
        assert_eq!(
            send(options.wait(Wait::Forever).wait_for(WaitFor::Room)).await,
            Some(Cause::NotListening)
        );
        assert_eq!(send(options.wait(short)).await, Some(Cause::NeverListened));
        let opening = TargetOptions::new().wait(short);
        assert_eq!(
            cause(open_target(own(), port(20), &opening).await),
            Some(Cause::NeverListened)
        );

        let receiver = Receiver::open(port(20)).expect("a receiver");
        let mut sent = 0;
        let full = loop {
            match send(options).await {
                None => sent += 1,
                cause => break cause,
            }
        };
        assert_eq!(full, Some(Cause::QueueFull));
        assert_eq!(send(options.wait(short)).await, Some(Cause::NeverRoom));
        for _ in 0..sent {
            receiver.recv().await.expect("a message");
        }
        assert_eq!(send(options.wait(short)).await, None);
        assert_eq!(
            cause(send_with(0, port(20), &[fd.as_fd()], &options).await),
            Some(Cause::PidNotPositive)
        );
        assert_eq!(
            cause(send_with(own(), port(20), &[], &options).await),
            Some(Cause::NoDescriptors)
        );
    });
}

#[test]
fn a_receiver_comes_out_again_with_what_was_sent() {
    let [runtime, other] = runtimes();
    let receiver = runtime.block_on(async {
        let receiver = Receiver::open(port(12)).expect("a receiver");
        let fd = passenger();
        send_with(own(), port(12), &[fd.as_fd()], &SendOptions::new())
            .await
            .expect("sent");
        receiver.into_inner()
    });
    let receiver = other.block_on(async {
        let receiver = Receiver::new(receiver).expect("watched by another runtime");
        receiver.recv().await.expect("the message");
        receiver
    });
    other.shutdown_background();
    // Nobody tells any more, and that is said.
    let error = runtime.block_on(receiver.recv());
    assert_eq!(cause(error), Some(Cause::Closed));
}
