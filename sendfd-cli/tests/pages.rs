//! The examples of the pages, run as they stand there.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};

/// The blocks of a page that are marked `sh`.
fn examples(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .filter_map(|block| Some(block.split_once("```")?.0.to_owned()))
        .collect()
}

fn run(page: &str) {
    let examples = examples(page);
    assert!(!examples.is_empty());
    let command = Path::new(env!("CARGO_BIN_EXE_sendfd"));
    let folder = command.parent().expect("in a folder").display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    for example in examples {
        let place = tempfile::tempdir().expect("a folder");
        let output = Command::new("timeout")
            // What hangs fails, with all that it has started.
            .args(["60", "bash", "-euo", "pipefail", "-c", &example])
            .current_dir(place.path())
            .env("PATH", &path)
            .env_remove("SENDFD_PATHS")
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}:\n{example}\n{text}");
    }
}

#[test]
fn command() {
    run("command.md");
}

#[test]
fn pool() {
    run("pool.md");
}

/// The configuration that the page shows is one, as far as this machine has what it names.
#[test]
fn the_pool_of_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pool.md");
    let text = std::fs::read_to_string(&path).expect("the page");
    let block = text
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pool.toml");
    std::fs::write(&file, block.expect("a configuration")).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_sendfd"))
        .arg("pool")
        .arg("--config")
        .arg(&file)
        // Refused only after the file was read and understood.
        .args(["--listen", "127.0.0.1:0", "--user", "1"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(
        text.contains("a worker's user needs a pool that stays root"),
        "{text}"
    );
}
