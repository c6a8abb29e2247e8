//! Which paths work between whom, under each scope of Yama: the evidence for the table of paths in
//! the README. It changes a setting of the kernel that cannot be put back, so that it only runs where
//! `SENDFD_TEST_YAMA` is set, as it is in the kernel of `make test-kernel`.

mod common;
use common::{has_call, peer, peer_as};
use sendfd_tests::{Peer, has, signal};

const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// How a sender is related to its target.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Parent,
    Sibling,
    Stranger,
}

/// Which users the two have, and how they came by them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Users {
    sender: u32,
    target: u32,
    /// Whether they gave up root, so that they are not dumpable.
    gave_up_root: bool,
}

impl Users {
    fn peer(self, uid: u32) -> Peer {
        if self.gave_up_root {
            let mut peer = peer();
            peer.ok(format!("setuid uid={uid}"));
            peer
        } else {
            peer_as(uid)
        }
    }
}

/// What the kernel's rules say of reaching into the target.
fn may_reach_in(scope: u32, relation: Relation, users: Users) -> bool {
    let capable = users.sender == 0;
    let by_user = capable || (users.sender == users.target && !users.gave_up_root);
    by_user
        && match scope {
            0 => true,
            1 => capable || relation == Relation::Parent,
            2 => capable,
            _ => false,
        }
}

#[test]
fn every_scope_relation_and_pair_of_users() {
    let may_change =
        std::env::var_os("SENDFD_TEST_YAMA").is_some() && std::path::Path::new(SCOPE).exists();
    if !has("yama", may_change) {
        return;
    }
    let pairs = [
        (0, 0, false),
        (0, 1000, false),
        (0, 1000, true),
        (1000, 1000, false),
        (1000, 1000, true),
        (1001, 1000, false),
    ];
    println!("scope relation  sender target gave up root  syscall pidfd name  taken");
    for scope in 0..=3 {
        std::fs::write(SCOPE, scope.to_string()).expect("scopes only grow");
        for relation in [Relation::Parent, Relation::Sibling, Relation::Stranger] {
            for (sender, target, gave_up_root) in pairs {
                let users = Users {
                    sender,
                    target,
                    gave_up_root,
                };
                if relation == Relation::Parent && sender != target {
                    // A child that listens has its parent's user here.
                    continue;
                }
                check(scope, relation, users);
            }
        }
    }
}

fn check(scope: u32, relation: Relation, users: Users) {
    let sig = signal(4);
    let mut sender = users.peer(users.sender);
    // Keeps the target's parent alive.
    let mut other = users.peer(users.target);
    // A receiver at one port, and at the next the kernel's call, which receivers are not reached by.
    let (fork, by_call) = (format!("fork-open sig={sig} signals={}", sig + 1), sig + 1);
    let pid = match relation {
        Relation::Parent => sender.ok(fork).parse().expect("a pid"),
        Relation::Stranger => other.ok(fork).parse().expect("a pid"),
        Relation::Sibling => {
            other.ok(format!("open sig={sig}"));
            other.ok(format!("listen sig={by_call} how=blocked"));
            other.pid()
        }
    };
    let accepted = users.sender == 0 || users.sender == users.target;
    let expected = [
        ("syscall", accepted && has_call()),
        ("pidfd", accepted && may_reach_in(scope, relation, users)),
        ("name", accepted),
    ];
    let mut found = Vec::new();
    for (path, works) in expected {
        let sig = if path == "syscall" { by_call } else { sig };
        let answer = sender.ask(format!("send pid={pid} sig={sig} paths={path} ms=2000"));
        let reached = matches!(answer, sendfd_tests::Answer::Ok(_));
        assert_eq!(
            reached, works,
            "{path} at scope {scope}, {relation:?}, {users:?}: {answer:?}"
        );
        found.push(if reached { "yes" } else { "no" });
    }
    let taken = match sender.ask(format!("target pid={pid} sig={sig}")) {
        sendfd_tests::Answer::Ok(answer) => answer,
        sendfd_tests::Answer::Error(errno, _) => format!("errno={errno}"),
    };
    println!(
        "{scope:>5} {:<9} {:>6} {:>6} {:>12}  {:>7} {:>5} {:>4}  {taken}",
        format!("{relation:?}").to_lowercase(),
        users.sender,
        users.target,
        if users.gave_up_root { "yes" } else { "no" },
        found[0],
        found[1],
        found[2],
    );
    // SAFETY: a child of a peer's, or the peer itself, which is killed when it is dropped anyway.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
