//! What a receiver does with what comes in.

mod common;
use std::time::{Duration, Instant};

use common::{PATHS, pair, peer};

use sendfd_tests::{Answer, Peer, signal, word};

#[test]
fn everything_a_message_carries() {
    let (mut sender, mut target, pid, sig) = pair();
    for path in PATHS {
        let line = format!(
            "send pid={pid} sig={sig} paths={path} n=3 tag=18446744073709551615 data=hello"
        );
        let sent = sender.ok(line);
        let answer = target.ok(format!("recv sig={sig} ms=5000"));
        assert_eq!(word(&answer, "fds"), sent);
        assert_eq!(word(&answer, "tag"), "18446744073709551615");
        assert_eq!(word(&answer, "data"), "hello");
        assert_eq!(word(&answer, "path"), path);
        assert_eq!(word(&answer, "pid"), sender.pid().to_string());
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        assert_eq!(word(&answer, "uid"), uid.to_string());
        assert_eq!(word(&answer, "gid"), gid.to_string());
    }
}

#[test]
fn pollable_exactly_while_there_is_something() {
    let (mut sender, mut target, pid, sig) = pair();
    for path in PATHS {
        assert_eq!(target.ok(format!("ready sig={sig}")), "0");
        sender.ok(format!("send pid={pid} sig={sig} paths={path} times=2"));
        for _ in 0..2 {
            assert_eq!(target.ok(format!("ready sig={sig}")), "1");
            target.ok(format!("recv sig={sig}"));
        }
        target.fails(format!("recv sig={sig}"), libc::EAGAIN);
        assert_eq!(target.ok(format!("ready sig={sig}")), "0");
    }
}

#[test]
fn what_is_taken_ahead_is_neither_hidden_nor_lost() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        target.ok("nofile n=16384");
        // To show a receiver, with its number, is not to poll it.
        assert!(target.ok(format!("show sig={sig}")).contains("Receiver"));
        // The connection is there before it is counted.
        sender.ok(format!("send pid={pid} sig={sig} paths={path} tag=1000"));
        target.ok(format!("recv sig={sig} ms=5000"));
        target.ok("forget");
        let before = target.count();

        sender.ok(format!("send pid={pid} sig={sig} paths={path} times=15"));
        let receive = |target: &mut sendfd_tests::Peer, tags: std::ops::Range<u64>| {
            for tag in tags {
                let answer = target.ok(format!("recv sig={sig} ms=5000"));
                assert_eq!(word(&answer, "tag"), tag.to_string());
            }
        };
        receive(&mut target, 0..9);
        target.ok("forget");
        // The socket is empty: these alone make the receiver readable.
        assert_eq!(target.count() - before, 6, "were taken ahead");
        for tag in 9..15 {
            assert_eq!(target.ok(format!("ready sig={sig}")), "1");
            receive(&mut target, tag..tag + 1);
        }
        assert_eq!(target.ok(format!("ready sig={sig}")), "0");
        target.ok("forget");
        assert_eq!(target.count(), before);

        // Nothing is taken ahead of a program that polls.
        sender.ok(format!(
            "send pid={pid} sig={sig} paths={path} times=32 tag=15"
        ));
        receive(&mut target, 15..31);
        target.ok("forget");
        assert_eq!(target.count(), before);
        receive(&mut target, 31..47);
    }
}

#[test]
fn closing_a_receiver_closes_what_it_took_ahead() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        target.ok("nofile n=16384");
        target.ok(format!("close sig={sig}"));
        let before = target.count();
        target.ok(format!("open sig={sig}"));
        let open = target.count();
        sender.ok(format!("send pid={pid} sig={sig} paths={path} times=20"));
        for _ in 0..10 {
            target.ok(format!("recv sig={sig} ms=5000"));
        }
        target.ok("forget");
        assert!(target.count() > open + 1, "nothing was taken ahead");
        target.ok(format!("close sig={sig}"));
        assert_eq!(target.count(), before);
    }
}

#[test]
fn a_full_table_loses_nothing() {
    for path in PATHS {
        for (limit, n) in [(64, 1), (64, 7), (1024, 5), (4096, 253)] {
            let (mut sender, mut target, pid, sig) = pair();
            target.ok(format!("nofile n={limit}"));
            // Warm, so that the receiver believes it knows the table.
            sender.ok(format!("send pid={pid} sig={sig} paths={path} tag=1000"));
            target.ok(format!("recv sig={sig} ms=5000"));
            sender.ok(format!(
                "send pid={pid} sig={sig} paths={path} n={n} times=20"
            ));
            target.ok(format!("fill leave={}", n - 1));
            for _ in 0..3 {
                target.fails(format!("recv sig={sig}"), libc::EMFILE);
            }
            target.ok("unfill n=1");
            for tag in 0..20 {
                let answer = target.ok(format!("recv sig={sig}"));
                assert_eq!(word(&answer, "tag"), tag.to_string());
                assert_eq!(word(&answer, "fds").split(',').count(), n);
            }
            target.fails(format!("recv sig={sig}"), libc::EAGAIN);
            target.ok("unfill");
            assert_eq!(target.ok(format!("dropped sig={sig}")), "0");
        }
    }
}

/// Where descriptors are few, each message is looked at before it is taken.
#[test]
fn a_retired_receiver_says_its_end_at_the_first_question() {
    for path in PATHS {
        for limit in [64, 1024, 16384] {
            let (mut sender, mut target, pid, sig) = pair();
            target.ok(format!("nofile n={limit}"));
            sender.ok(format!("send pid={pid} sig={sig} paths={path} times=3"));
            target.ok(format!("retire sig={sig}"));
            sender.fails(
                format!("send pid={pid} sig={sig} paths={path}"),
                libc::ECONNREFUSED,
            );
            for _ in 0..3 {
                target.ok(format!("recv sig={sig}"));
            }
            for _ in 0..2 {
                target.fails(format!("recv sig={sig}"), libc::ESHUTDOWN);
            }
        }
    }
}

#[test]
fn closing_a_receiver_closes_what_nobody_received() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        target.ok(format!("close sig={sig}"));
        let before = target.count();
        target.ok(format!("open sig={sig}"));
        sender.ok(format!("send pid={pid} sig={sig} paths={path} n=9 times=9"));
        target.ok(format!("close sig={sig}"));
        assert_eq!(target.count(), before);
        // The next receiver starts with nothing, and is found by the old target.
        target.ok(format!("open sig={sig}"));
        target.fails(
            format!("recv sig={sig} ms=20"),
            libc::EAGAIN.max(libc::ETIMEDOUT),
        );
        sender.ok(format!("send pid={pid} sig={sig} paths={path} tag=4"));
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "tag"),
            "4"
        );
    }
}

#[test]
fn records_that_are_no_messages_are_dropped_and_closed() {
    let (mut sender, mut target, pid, sig) = pair();
    let before = target.count();
    let bad = [
        "text=hello",
        "len=24",
        "len=5000",
        "n=0 len=24",
        "n=253 len=1",
        // A good header that promises one descriptor, with another number of them.
        "header=1 n=2",
        "header=1 n=0",
        // Longer than it says.
        "header=1 len=25",
    ];
    for (nth, bad) in bad.into_iter().enumerate() {
        target.tell(format!("recv sig={sig} ms=300"));
        let closed = sender.ok(format!("raw pid={pid} sig={sig} {bad}"));
        assert_eq!(closed, "closed=true", "{bad}");
        assert!(matches!(target.answer(), Answer::Error(libc::ETIMEDOUT, _)));
        assert_eq!(
            target.ok(format!("dropped sig={sig}")),
            (nth + 1).to_string()
        );
    }
    // The same header with what it promises is one.
    target.tell(format!("recv sig={sig} ms=5000"));
    sender.ok(format!("raw pid={pid} sig={sig} header=1"));
    assert!(matches!(target.answer(), Answer::Ok(_)));
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn what_is_no_sealed_memfd_is_not_read_as_data() {
    let (mut sender, mut target, pid, sig) = pair();
    let refuse = |sender: &mut Peer, target: &mut Peer, line: &str, nth: usize| {
        sender.tell(format!("raw pid={pid} sig={sig} header=1 s=60 {line}"));
        let since = Instant::now();
        while target.ok(format!("dropped sig={sig}")) != nth.to_string() {
            let nothing = target.ask(format!("recv sig={sig} ms=10"));
            let waits = matches!(nothing, Answer::Error(libc::ETIMEDOUT | libc::EAGAIN, _));
            assert!(waits, "{line}: {nothing:?}");
            assert!(since.elapsed() < Duration::from_secs(60), "{line}");
        }
        match sender.answer() {
            Answer::Ok(closed) => assert_eq!(closed, "closed=true", "{line}"),
            failed => panic!("{line}: {failed:?}"),
        }
    };
    let before = target.count();
    let files = [
        "unsealed",
        "sealing",
        "written",
        "only-later",
        "shrinking",
        "growing",
        "short",
        "long",
        "huge",
        "empty",
        "pipe",
        "directory",
        "zero",
        "file",
    ];
    let mut nth = 0;
    for file in files {
        nth += 1;
        let line = format!("flags=1 says=5000 file={file}");
        refuse(&mut sender, &mut target, &line, nth);
    }
    for line in [
        // The flag, and no memfd; none beside which anything is given out.
        "flags=1 says=5000",
        "flags=1 says=5000 n=0 file=sealed",
        "flags=1 says=5000 n=2 file=sealed",
        // A memfd, and no flag.
        "says=0 file=sealed",
        // A length that needs no memfd, or that none may have.
        "flags=1 says=0 file=empty",
        "flags=1 says=4096 file=sealed",
        "flags=1 says=1048577 file=huge",
        "flags=1 says=4294967295 file=huge",
        // Data in both places, and flags that nobody knows.
        "flags=1 says=5000 len=25 file=sealed",
        "flags=1 says=5000 len=5024 file=sealed",
        "flags=3 says=5000 file=sealed",
    ] {
        nth += 1;
        refuse(&mut sender, &mut target, line, nth);
    }
    target.tell(format!("recv sig={sig} ms=20000"));
    sender.ok(format!(
        "raw pid={pid} sig={sig} header=1 flags=1 says=5000 file=sealed"
    ));
    let message = match target.answer() {
        Answer::Ok(message) => message,
        refused => panic!("{refused:?}"),
    };
    assert_eq!(word(&message, "data").len(), 5000);
    assert_eq!(word(&message, "fds").split(',').count(), 1);
    target.fails(format!("recv sig={sig}"), libc::EAGAIN);
    assert_eq!(target.count(), before);
}

#[test]
fn a_squatter_receives_nothing() {
    let (mut sender, mut squatter, mut target) = (peer(), peer(), peer());
    let (pid, sig) = (target.pid(), signal(0));
    squatter.ok(format!("squat pid={pid} sig={sig}"));
    let before = sender.count();
    for _ in 0..50 {
        let text = sender.fails(format!("send pid={pid} sig={sig}"), libc::ECONNREFUSED);
        assert!(
            text.contains(&format!("process {} holds", squatter.pid())),
            "{text}"
        );
    }
    assert_eq!(sender.count(), before);
    // The target opens all the same, and says in its report what is wrong.
    target.ok(format!("open sig={sig}"));
    let report = target.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("pidfd=works"), "{report}");
    assert!(
        report.contains(&format!("process {} holds", squatter.pid())),
        "{report}"
    );
    sender.fails(
        format!("send pid={pid} sig={sig} paths=name"),
        libc::ECONNREFUSED,
    );
    sender.ok(format!("send pid={pid} sig={sig} paths=pidfd,name"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "pidfd"
    );
    assert!(squatter.lives(), "it was sent something");
}

#[test]
fn each_once_and_in_order_among_threads() {
    // Fewer where a kernel is slow, as one that is emulated.
    let each: usize =
        std::env::var("SENDFD_TEST_MESSAGES").map_or(100_000, |n| n.parse().expect("a number")) / 8;
    let total = each * 8;
    for (path, shared, many) in [
        ("pidfd", "", 1),
        ("pidfd", "shared=1", 8),
        ("name", "", 1),
        ("name", "shared=1", 8),
    ] {
        let (mut sender, mut target, pid, sig) = pair();
        target.tell(format!(
            "drain sig={sig} threads=4 total={total} many={many}"
        ));
        sender.ok(format!(
            "flood pid={pid} sig={sig} threads=8 each={each} paths={path} {shared}"
        ));
        assert_eq!(target.answer(), Answer::Ok(format!("received={total}")));
    }
}

#[test]
fn order_outlives_the_connection() {
    let (mut sender, mut target, pid, sig) = pair();
    // All of them before the first is read. The first connection has more than the receiver takes
    // from one before it turns to the next.
    let mut sent = 0;
    for times in std::iter::once(200).chain([2; 100]) {
        // Targets share a connection while there is one.
        sender.ok("untarget");
        sender.ok(format!("target pid={pid} sig={sig} paths=name"));
        sender.ok(format!("tsend tag={sent} times={times}"));
        sent += times;
    }
    for tag in 0..sent {
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "tag"),
            tag.to_string()
        );
    }
}

#[test]
fn many_senders_by_name_in_a_small_table() {
    let (mut sender, mut target, pid, sig) = pair();
    target.ok("nofile n=64");
    let mut tag = 0;
    let mut receive = |target: &mut sendfd_tests::Peer, count: usize| {
        let mut tags: Vec<u64> = (0..count)
            .map(|_| {
                word(&target.ok(format!("recv sig={sig} ms=5000")), "tag")
                    .parse()
                    .expect("tag")
            })
            .collect();
        tags.sort_unstable();
        let first = tag;
        tag += count as u64;
        assert_eq!(tags, (first..tag).collect::<Vec<_>>());
    };
    // Sixteen targets that stay connected, and those of other processes beside them.
    let mut others: Vec<_> = (0..100).map(|_| peer()).collect();
    let mut next = 0;
    for _ in 0..3 {
        for other in &mut others {
            other.ok(format!("send pid={pid} sig={sig} paths=name tag={next}"));
            next += 1;
        }
        sender.ok(format!("send pid={pid} sig={sig} paths=name tag={next}"));
        next += 1;
        receive(&mut target, 101);
    }
    let open = target.count();
    assert!(open < 64, "{open}");
}
