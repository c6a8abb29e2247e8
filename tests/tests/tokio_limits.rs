//! What a tokio runtime does at the limits of a whole process: one test, in a process of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sendfd_core::tokio::{Receiver, send_to};
use sendfd_core::{Cause, Port, SendOptions, Target, Wait};

fn set_limit(current: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(current),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("lowered");
}

fn passenger() -> OwnedFd {
    rustix::fs::memfd_create(c"passenger", MemfdFlags::CLOEXEC).expect("a memfd")
}

#[test]
fn a_full_table_is_reported_once_and_flight_is_waited_for() {
    if rustix::process::geteuid().is_root() {
        // The kernel counts what is in flight for each user, root excepted.
        // SAFETY: no pointers; all threads of this process change together.
        assert_eq!(unsafe { libc::setgid(1079) | libc::setuid(1079) }, 0);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let port = Port::new(3).expect("a port");
        let mut receiver = Receiver::open(port).expect("a receiver");
        let target = Target::open(std::process::id(), port).expect("a target");
        let fd = passenger();
        let send = async |wait, tag| {
            let options = SendOptions::new().wait(wait).tag(tag);
            send_to(&target, &[fd.as_fd()], &options).await
        };

        // ---- a full table
        for tag in 0..3 {
            send(Wait::Never, tag).await.expect("sent");
        }
        set_limit(60);
        let mut fillers = Vec::new();
        while let Ok(filler) = fd.try_clone() {
            fillers.push(filler);
        }
        let error = receiver.next().await.expect("an item").expect_err("full");
        assert_eq!(error.cause(), Cause::TableFull);
        // Not again, however long it stays so; and one that is awaited by itself says so each time.
        let quiet = tokio::time::timeout(Duration::from_millis(100), receiver.next()).await;
        assert!(quiet.is_err());
        for _ in 0..2 {
            let error = receiver.recv().await.expect_err("full");
            assert_eq!(error.cause(), Cause::TableFull);
        }
        let error = send(Wait::Forever, 3)
            .await
            .expect_err("no room to hold it");
        assert_eq!(error.cause(), Cause::TableFull);
        fillers.truncate(fillers.len() - 20);
        for tag in 0..3 {
            let message = receiver.next().await.expect("an item").expect("a message");
            assert_eq!(message.tag, tag);
        }
        drop(fillers);

        // ---- descriptors in flight
        let limited = loop {
            if let Err(error) = send(Wait::Never, 0).await {
                break error.cause();
            }
        };
        assert_eq!(limited, Cause::TooManyInFlight);
        let short = Wait::For(Duration::from_millis(20));
        let error = send(short, 0).await.expect_err("still in flight");
        assert_eq!(error.cause(), Cause::NeverLanded);
        let receiving = async {
            while receiver
                .next()
                .await
                .expect("an item")
                .expect("a message")
                .tag
                != 7
            {}
        };
        let (sent, ()) = tokio::join!(send(Wait::Forever, 7), receiving);
        sent.expect("sent");
    });
}
