//! The house of src/, as docs/design.md draws it: an import points down or stays on its floor, the
//! two wings know nothing of each other, and no two files import each other. Read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Ground,
    System,
    MeetingPlace,
    Sending,
    Receiving,
    Roof,
}

/// Which floor each file or folder of src/ is on.
const HOUSE: [(Floor, &[&str]); 6] = [
    (
        Floor::Ground,
        &[
            "agent",
            "credentials",
            "error",
            "limits",
            "lock",
            "path",
            "wait",
        ],
    ),
    (
        Floor::System,
        &["call", "kind", "process", "signal", "sys", "wire"],
    ),
    (Floor::MeetingPlace, &["address", "marker"]),
    (
        Floor::Sending,
        &[
            "admission",
            "cache",
            "link",
            "outgoing",
            "passengers",
            "reach",
            "route",
            "sealed",
            "send",
            "sender",
            "target",
        ],
    ),
    (
        Floor::Receiving,
        &["fork", "listen", "message", "port", "ports", "receiver"],
    ),
    (
        Floor::Roof,
        &["fuzzing", "lib", "probe", "protocol", "tokio"],
    ),
];

fn floor(file: &str) -> Floor {
    let room = file.split('/').next().unwrap_or(file);
    HOUSE
        .iter()
        .find(|(_, rooms)| rooms.contains(&room))
        .unwrap_or_else(|| panic!("src/{file} is on no floor: put it into HOUSE"))
        .0
}

/// Whether a file on the one floor may import from the other.
fn may_import(from: Floor, to: Floor) -> bool {
    let wings = [Floor::Sending, Floor::Receiving];
    to <= from && (from == to || !(wings.contains(&from) && wings.contains(&to)))
}

/// Each file of src/ by its module path (`link/pidfd`; a folder's mod.rs by the folder's), with its
/// text up to its unit tests, which may use whatever they need.
fn files() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&src).expect("inside").with_extension("");
            let name = name.to_str().expect("UTF-8");
            let name = name.strip_suffix("/mod").unwrap_or(name).to_owned();
            let text = fs::read_to_string(&path).expect("a source");
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code: Vec<&str> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            files.insert(name, code.join("\n"));
        }
    }
    files
}

/// The paths that a text names below this crate, as lists of words: what follows `crate::` and
/// `super::`, with the braces of imports resolved.
fn named(file: &str, text: &str) -> Vec<Vec<String>> {
    let words: Vec<String> = file.split('/').map(str::to_owned).collect();
    let folder = words[..words.len() - 1].to_vec();
    let mut all = Vec::new();
    for (word, start) in [("crate::", Vec::new()), ("super::", folder)] {
        for (at, _) in text.match_indices(word) {
            expand(&text[at + word.len()..], start.clone(), &mut all);
        }
    }
    all
}

/// Reads `a::b::{c, d::e}` at the beginning of `text`.
fn expand(text: &str, mut path: Vec<String>, all: &mut Vec<Vec<String>>) {
    let mut rest = text;
    loop {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        if end > 0 {
            path.push(rest[..end].to_owned());
            rest = &rest[end..];
            match rest.strip_prefix("::") {
                Some(more) => rest = more,
                None => break,
            }
        } else if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut from) = (0, 0);
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    ',' | '}' if depth == 0 => {
                        expand(list[from..at].trim(), path.clone(), all);
                        from = at + 1;
                        if c == '}' {
                            return;
                        }
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            return;
        } else {
            break;
        }
    }
    all.push(path);
}

/// Which file imports which others.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let files = files();
    let mut imports = BTreeMap::new();
    for (file, text) in &files {
        let mut others = BTreeSet::new();
        for path in named(file, text) {
            // The longest beginning that is a file.
            let other = (1..=path.len())
                .rev()
                .map(|length| path[..length].join("/"))
                .find(|name| files.contains_key(name));
            if let Some(other) = other.filter(|other| other != file) {
                others.insert(other);
            }
        }
        imports.insert(file.clone(), others);
    }
    imports
}

#[test]
fn every_file_has_a_floor() {
    for file in files().keys() {
        floor(file);
    }
}

#[test]
fn imports_point_down_and_the_wings_are_apart() {
    let mut wrong = BTreeSet::new();
    for (file, others) in imports() {
        for other in others {
            if !may_import(floor(&file), floor(&other)) {
                wrong.insert((file.clone(), other));
            }
        }
    }
    assert_eq!(wrong, BTreeSet::new());
}

#[test]
fn no_two_files_import_each_other() {
    let imports = imports();
    let mut circles = BTreeSet::new();
    for (file, others) in &imports {
        for other in others.iter().filter(|other| *other > file) {
            if imports.get(other).is_some_and(|back| back.contains(file)) {
                circles.insert((file.as_str(), other.as_str()));
            }
        }
    }
    assert_eq!(circles, BTreeSet::new());
}

#[test]
fn this_test_sees_what_it_looks_for() {
    let mut all = Vec::new();
    expand("a::{b, c::{self, d}, e}; crate::x", Vec::new(), &mut all);
    let all: Vec<String> = all.iter().map(|path| path.join("/")).collect();
    assert_eq!(all, ["a/b", "a/c/self", "a/c/d", "a/e"]);
    assert!(may_import(Floor::Roof, Floor::Ground));
    assert!(may_import(Floor::Sending, Floor::Sending));
    assert!(!may_import(Floor::Ground, Floor::System));
    assert!(!may_import(Floor::Receiving, Floor::Sending));
    assert!(!may_import(Floor::Sending, Floor::Receiving));
    let imports = imports();
    assert!(imports["link/pidfd"].contains("marker"));
    assert!(imports["target"].contains("reach"));
}
