//! `make install` of the command, into a folder that stages it, and `make uninstall`.
#![allow(missing_docs)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sendfd_tests::has;

/// `make TARGET` in this folder, with the command that is under test.
fn make(words: &[&str]) -> Output {
    Command::new("make")
        .arg("-C")
        .arg(env!("CARGO_MANIFEST_DIR"))
        .arg(format!("COMMAND={}", env!("CARGO_BIN_EXE_sendfd")))
        .args(words)
        // Not a part of the make that may be running this.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .expect("make runs")
}

fn has_make() -> bool {
    has("make", Command::new("make").arg("-v").output().is_ok())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").flatten();
    let mut files: Vec<PathBuf> = entries
        .flat_map(|entry| {
            if entry.path().is_dir() {
                files(&entry.path())
            } else {
                vec![entry.path()]
            }
        })
        .collect();
    files.sort();
    files
}

#[test]
fn staged_and_removed() {
    if !has_make() {
        return;
    }
    let stage = tempfile::tempdir().expect("a folder");
    let place = format!("DESTDIR={}", stage.path().display());
    let run = |target: &str| {
        let output = make(&[target, &place, "PREFIX=/opt/x", "ZSHDIR=/opt/x/zsh"]);
        assert!(output.status.success(), "{}", common::stderr(&output));
    };
    run("install");
    let files_of_stage = files(stage.path());
    let modes = files_of_stage.iter().map(|path| {
        let mode = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let name = path.strip_prefix(stage.path()).expect("below it");
        (name.display().to_string(), mode)
    });
    let modes: Vec<(String, u32)> = modes.collect();
    for (name, mode) in [
        ("opt/x/bin/sendfd", 0o755),
        ("opt/x/share/man/man1/sendfd.1", 0o644),
        ("opt/x/share/man/man1/sendfd-pool.1", 0o644),
        ("opt/x/share/bash-completion/completions/sendfd", 0o644),
        ("opt/x/share/fish/vendor_completions.d/sendfd.fish", 0o644),
        ("opt/x/zsh/_sendfd", 0o644),
    ] {
        assert!(
            modes.contains(&(name.to_owned(), mode)),
            "{name}: {modes:#?}"
        );
    }
    let installed = stage.path().join("opt/x/bin/sendfd");
    let version = Command::new(installed)
        .arg("--version")
        .output()
        .expect("it runs");
    let expected = format!("sendfd {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(common::stdout(&version), expected);
    run("uninstall");
    assert_eq!(files(stage.path()), Vec::<PathBuf>::new());
}

#[test]
fn without_rights() {
    if !has_make() {
        return;
    }
    // Nobody can make a folder there, root neither.
    let output = make(&["install", "PREFIX=/proc/self/nowhere"]);
    let text = common::stderr(&output);
    assert!(!output.status.success());
    assert!(text.contains("PREFIX=$HOME/.local"), "{text}");
}
