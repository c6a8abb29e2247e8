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
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &example])
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
