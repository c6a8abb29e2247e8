//! Sandboxes that refuse pidfd_getfd(2).

mod common;
use common::{default_path, pair};
use sendfd_tests::word;

#[test]
fn a_filter_that_answers_eperm() {
    let (mut sender, mut target, pid, sig) = pair();
    sender.ok(format!("refuse errno={}", libc::EPERM));
    let chosen = sender.ok(format!("target pid={pid} sig={sig}"));
    assert_eq!(word(&chosen, "path"), default_path("name"));
    sender.ok("tsend tag=1");
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "name"
    );
    let before = sender.count();
    let text = sender.fails(format!("send pid={pid} sig={sig} paths=pidfd"), libc::EPERM);
    assert!(text.contains("seccomp"), "{text}");
    let report = sender.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("name=works"), "{report}");
    assert!(
        report.contains("a seccomp filter refuses pidfd_getfd"),
        "{report}"
    );
    assert_eq!(sender.count(), before);
}

#[test]
fn a_filter_that_answers_enosys() {
    let (mut sender, mut target, pid, sig) = pair();
    sender.ok(format!("refuse errno={}", libc::ENOSYS));
    let before = sender.count();
    // More than once: it is remembered, and the answer stays the same.
    for _ in 0..3 {
        let text = sender.fails(
            format!("send pid={pid} sig={sig} paths=pidfd"),
            libc::EOPNOTSUPP,
        );
        assert!(text.contains("pidfd"), "{text}");
    }
    let report = sender.ok(format!("probe pid={pid} sig={sig}"));
    assert!(report.contains("name=works"), "{report}");
    assert!(report.contains("not offered here: pidfd"), "{report}");
    assert_eq!(sender.count(), before);
    sender.ok(format!("send pid={pid} sig={sig} data=x"));
    assert_eq!(
        word(&target.ok(format!("recv sig={sig} ms=5000")), "path"),
        "name"
    );
}
