//! The demo, whole: a load, a kill, a reload, and nothing lost.
#![allow(missing_docs)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use sendfd_tests::has;

#[test]
fn the_demo_loses_nothing() {
    let runs = |program: &str, flag: &str| Command::new(program).arg(flag).output().is_ok();
    let command = Path::new(env!("CARGO_BIN_EXE_sendfd"));
    let worker = command.parent().expect("a folder").join("pool-worker");
    let there = has("python3", runs("python3", "-V"))
        && has("curl", runs("ab", "-V") || runs("curl", "-V"))
        && has("pool-worker", worker.exists());
    if !there {
        return;
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/pool/demo.py");
    let run = |words: &[&str]| {
        let workers = ["one", "two"].map(|name| format!("{name}={}", worker.display()));
        Command::new("python3")
            .arg(&demo)
            .args(["--sendfd", env!("CARGO_BIN_EXE_sendfd")])
            .args(words)
            .args(workers)
            .stdin(Stdio::null())
            .output()
            .expect("python3 runs")
    };
    let output = run(&["--requests", "1500", "--kill", "two"]);
    let text = common::stdout(&output) + &common::stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("\n0 lost\n"), "{text}");
    assert!(text.contains("reload: 2 of 2 workers are new"), "{text}");
    // Piped, it is plain lines.
    assert!(!text.contains('\x1b'), "{text}");

    // What fails leaves no worker, and nothing that holds the pipe open: this comes back.
    let output = run(&["--kill", "two", "three=/nonexistent/worker"]);
    let text = common::stdout(&output) + &common::stderr(&output);
    assert!(!output.status.success());
    assert!(
        text.contains("cannot start worker three (/nonexistent/worker)"),
        "{text}"
    );
}
