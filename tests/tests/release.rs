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
            .args([
                "package",
                "--list",
                "--allow-dirty",
                "--offline",
                "-p",
                name,
            ])
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
}

/// Names of environment variables that a line reads or sets, in any of our languages.
fn variables(line: &str) -> impl Iterator<Item = &str> {
    const BEFORE: [&str; 11] = [
        "var(\"",
        "var_os(\"",
        "env(\"",
        "env_remove(\"",
        "environ[\"",
        "environ['",
        "environ.get(\"",
        "environ.get('",
        "process.env.",
        "${",
        "$",
    ];
    BEFORE.iter().flat_map(move |before| {
        line.match_indices(before).filter_map(move |(at, _)| {
            let rest = &line[at + before.len()..];
            let end = rest.find(|letter: char| !letter.is_ascii_uppercase() && letter != '_');
            let name = &rest[..end.unwrap_or(rest.len())];
            name.starts_with("SENDFD_").then_some(name)
        })
    })
}

#[test]
fn every_environment_variable_is_in_the_page() {
    let output = Command::new("git")
        .args(["ls-files"])
        .current_dir(top())
        .output();
    let is_clone = output.as_ref().is_ok_and(|output| output.status.success());
    if !sendfd_tests::has("git", is_clone) {
        return;
    }
    let files = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut read = std::collections::BTreeSet::new();
    for file in files
        .lines()
        .filter(|file| !file.ends_with(".md") && !file.ends_with(".patch"))
    {
        // What is no text holds none.
        let Ok(text) = std::fs::read_to_string(top().join(file)) else {
            continue;
        };
        read.extend(text.lines().flat_map(variables).map(str::to_owned));
    }
    let page = self::read("tests/README.md");
    let told: std::collections::BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '=']).next())
        .filter(|name| name.starts_with("SENDFD_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(read, told, "what is used, and what tests/README.md says");
    let changelog = read("packaging/debian/changelog");
    assert!(
        changelog.starts_with(&format!("libsendfd ({VERSION}) ")),
        "packaging/debian/changelog does not begin with {VERSION}"
    );
}
