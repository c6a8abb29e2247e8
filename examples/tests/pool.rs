//! The pool, whole.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

use sendfd_tests::has;

fn front(arguments: &[&str]) -> (bool, String) {
    let worker = env!("CARGO_BIN_EXE_pool-worker");
    let output = Command::new(env!("CARGO_BIN_EXE_pool-front"))
        .args(arguments)
        .args(["one", "two", "three"].map(|name| format!("{name}={worker}")))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

fn has_curl() -> bool {
    has(
        "curl",
        Command::new("curl").arg("--version").output().is_ok(),
    )
}

#[test]
fn every_request_is_answered() {
    if !has_curl() {
        return;
    }
    let (success, text) = front(&["--requests", "300"]);
    assert!(success, "{text}");
    assert!(
        text.contains("300 connections accepted, 300 handed over, 300 answered"),
        "{text}"
    );
}

#[test]
fn a_killed_worker_loses_nothing_that_the_front_holds() {
    if !has_curl() {
        return;
    }
    let (success, text) = front(&["--requests", "1200", "--kill", "two"]);
    assert!(success, "{text}");
    assert!(
        text.contains("1200 connections accepted, 1200 handed over"),
        "{text}"
    );
    assert!(
        text.contains("worker two: cannot send to process"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let output = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pool-front"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(output(&[]).contains("usage"));
    assert!(output(&["x=/nonexistent/worker"]).contains("cannot start worker x"));
    // A worker that ends without listening.
    assert!(output(&["x=true"]).contains("there is no such process"));
}
