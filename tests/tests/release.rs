//! What a release says of itself in several places is the same in all of them, and what is published is whole.

use std::path::Path;
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: &str) -> String {
    let path = top().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn crates_carry_their_readme_and_licenses() {
    for name in ["sendfd-core", "sendfd-cli"] {
        let output = Command::new(env!("CARGO"))
            .args(["package", "--list", "--allow-dirty", "--offline", "-p", name])
            .current_dir(top())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let files = String::from_utf8(output.stdout).unwrap();
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(
                files.lines().any(|line| line == file),
                "{name} has no {file}"
            );
        }
    }
}

#[test]
fn versions_agree() {
    let node: &[&str] = &[
        "package.json",
        "npm/linux-x64-gnu/package.json",
        "npm/linux-x64-musl/package.json",
        "npm/linux-arm64-gnu/package.json",
        "npm/linux-arm64-musl/package.json",
    ];
    for file in node {
        let text = read(&format!("bindings/node/{file}"));
        assert!(
            text.contains(&format!("\"version\": \"{VERSION}\"")),
            "bindings/node/{file} is not {VERSION}"
        );
    }
    let debian = read("packaging/debian/changelog");
    assert!(
        debian.starts_with(&format!("libsendfd ({VERSION}) ")),
        "packaging/debian/changelog does not begin with {VERSION}"
    );
}
