//! Processes that die, fork, or get the pid of another.

mod common;
use common::{PATHS, RECEIVER_COST, pair, peer};
use rustix::process::{Resource, getrlimit};
use sendfd_tests::{has, has_pids_again, signal, with_pid, word};

#[test]
fn a_sender_killed_right_after_success() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        let before = target.count();
        sender.tell(format!(
            "killed-after-send pid={pid} sig={sig} paths={path} times=1000"
        ));
        for tag in 0..1000 {
            let answer = target.ok(format!("recv sig={sig} ms=20000"));
            assert_eq!(word(&answer, "tag"), tag.to_string());
        }
        assert!(matches!(sender.answer(), sendfd_tests::Answer::Ok(_)));
        target.fails(format!("recv sig={sig}"), libc::EAGAIN);
        assert_eq!(target.count(), before);
    }
}

#[test]
fn a_forked_child_can_neither_receive_nor_keep_alive() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        sender.ok(format!("target pid={pid} sig={sig} paths={path}"));
        sender.ok("tsend tag=1");
        let answer = target.ok(format!("fork-recv sig={sig}"));
        assert!(
            answer.starts_with(&format!("errno={}", libc::EBADF)),
            "{answer}"
        );
        assert_eq!(word(&answer, "own"), "true");
        // Its copies of what the parent's receiver owns are gone, except that the number of the epoll
        // descriptor is still the receiver's. What it opened itself it has closed.
        let gone = 1 - RECEIVER_COST as i64;
        assert_eq!(word(&answer, "inherited"), gone.to_string());
        // The parent has lost nothing.
        assert_eq!(
            word(&target.ok(format!("recv sig={sig} ms=5000")), "tag"),
            "1"
        );
        sender.ok("tsend tag=2");

        let child: i32 = target.ok("fork-hold").parse().expect("a pid");
        target.kill();
        sender.fails("tsend", libc::ESRCH);
        sender.fails(
            format!("send pid={pid} sig={sig} paths={path}"),
            libc::ESRCH,
        );
        sender.fails(
            format!("send pid={child} sig={sig} paths={path}"),
            libc::ECONNREFUSED,
        );
        // SAFETY: the child of the killed peer, which nobody else waits for.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
}

#[test]
fn a_forked_child_keeps_nothing_of_what_its_parent_took_ahead() {
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        target.ok("nofile n=16384");
        let before = target.count();
        sender.ok(format!("send pid={pid} sig={sig} paths={path} times=16"));
        for _ in 0..9 {
            target.ok(format!("recv sig={sig} ms=5000"));
        }
        target.ok("forget");
        let more = (target.count() - before) as i64;
        assert!(more > 1, "nothing was taken ahead");
        let answer = target.ok(format!("fork-recv sig={sig}"));
        let gone = 1 - RECEIVER_COST as i64 - more;
        assert_eq!(word(&answer, "inherited"), gone.to_string());
        for tag in 9..16 {
            let answer = target.ok(format!("recv sig={sig}"));
            assert_eq!(word(&answer, "tag"), tag.to_string());
        }
    }
}

#[test]
fn a_target_is_the_process_and_not_its_pid() {
    if !has_pids_again() {
        return;
    }
    for path in PATHS {
        let (mut sender, mut target, pid, sig) = pair();
        sender.ok(format!("target pid={pid} sig={sig} paths={path}"));
        sender.ok("tsend");
        sender.ok(format!("send pid={pid} sig={sig} paths={path}"));
        target.kill();
        let mut heir = with_pid(pid, || {
            let heir = peer();
            (heir.pid(), heir)
        });
        heir.ok(format!("open sig={sig}"));
        let before = heir.count();
        sender.fails("tsend", libc::ESRCH);
        sender.fails("tsend ms=100", libc::ESRCH);
        heir.fails(format!("recv sig={sig} ms=50"), libc::ETIMEDOUT);
        assert_eq!(heir.count(), before);
        // Who names the pid now means the process that has it now.
        sender.ok(format!("send pid={pid} sig={sig} paths={path} tag=3"));
        assert_eq!(
            word(&heir.ok(format!("recv sig={sig} ms=5000")), "tag"),
            "3"
        );
    }
}

#[test]
fn first_contact_with_a_large_table() {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let root = rustix::process::geteuid().is_root();
    if !has("12000 descriptors", limit >= 12_000 || root) {
        return;
    }
    let (mut sender, mut target) = (peer(), peer());
    let sig = signal(0);
    let pid = target.pid();
    target.ok("nofile n=12000");
    target.ok("occupy n=10000");
    target.ok(format!("open sig={sig}"));
    sender.ok(format!("send pid={pid} sig={sig} paths=pidfd"));
    target.ok(format!("recv sig={sig} ms=5000"));
}
