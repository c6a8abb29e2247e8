//! `sendfd list`: who listens on this machine.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;

use sendfd_core::probe;
use serde_json::json;

use crate::args::ListArgs;
use crate::exit::Result;
use crate::paint::{BOLD, DIM};
use sendfd_core::Port;

pub(crate) fn run(args: &ListArgs) -> Result<()> {
    let rows: Vec<Row> = listeners(None).into_iter().filter_map(Row::of).collect();
    let mut out = anstream::stdout();
    if args.json {
        for row in rows {
            let line = json!({
                "pid": row.pid, "port": row.port.to_string(), "signal": row.port.signal(),
                "uid": row.uid, "paths": row.paths, "command": row.command,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(
            anstream::stderr(),
            "{DIM}nobody listens, as far as this user can see{DIM:#}"
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "{BOLD}{:>8} {:>8} {:>6}  {:<20} COMMAND{BOLD:#}",
        "PID", "PORT", "UID", "PATHS"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:>8} {:>8} {:>6}  {:<20} {}",
            row.pid,
            row.port.to_string(),
            row.uid,
            if row.paths.is_empty() {
                "refused"
            } else {
                &row.paths
            },
            row.command
        )?;
    }
    Ok(())
}

struct Row {
    pid: u32,
    port: Port,
    uid: u32,
    paths: String,
    command: String,
}

impl Row {
    /// Nothing where the process has gone meanwhile.
    fn of((pid, port): (u32, Port)) -> Option<Self> {
        let report = probe(pid, port).ok()?;
        let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        Some(Row {
            pid,
            port,
            uid,
            paths: report.working().to_string(),
            command: command(pid),
        })
    }
}

/// The command line, on one line.
fn command(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(|word| word.escape_ascii().to_string()).collect();
    let mut line = words.join(" ");
    if line.chars().count() > 100 {
        line = line.chars().take(99).collect::<String>() + "…";
    }
    line
}

/// Every process and port that can be seen, or those of one process. What is found is a hint: whether
/// anybody listens there is for a probe to say.
pub(crate) fn listeners(only: Option<u32>) -> BTreeSet<(u32, Port)> {
    let mut found = BTreeSet::new();
    let addresses = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let namespace = std::fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino());
    found.extend(
        addresses
            .lines()
            .filter_map(|line| by_address(line, namespace)),
    );

    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.filter(|pid| only.is_none_or(|only| only == *pid)) {
        let Ok(table) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in table.flatten() {
            let link = std::fs::read_link(entry.path()).unwrap_or_default();
            let port = link.to_str().and_then(by_marker);
            found.extend(port.map(|port| (pid, port)));
        }
    }
    if let Some(only) = only {
        found.retain(|(pid, _)| *pid == only);
    }
    found
}

/// A line of /proc/net/unix that names the listener of the `name` path: `@sendfd/1/NAMESPACE/PID/SIG`.
fn by_address(line: &str, namespace: u64) -> Option<(u32, Port)> {
    let name = line.split_ascii_whitespace().nth(7)?;
    let mut words = name.strip_prefix("@sendfd/")?.split('/').skip(1);
    let of_here = words.next()?.parse() == Ok(namespace);
    let pid = words.next()?.parse().ok()?;
    let port = Port::from_signal(words.next()?.parse().ok()?).ok()?;
    (of_here && words.next().is_none()).then_some((pid, port))
}

/// A link of /proc/PID/fd that is a marker: `/memfd:sendfd:1:SIG:…`.
fn by_marker(link: &str) -> Option<Port> {
    let mut words = link.strip_prefix("/memfd:sendfd:")?.split(':').skip(1);
    Port::from_signal(words.next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_of_this_namespace() {
        let line = |name: &str| {
            format!("0000000000000000: 00000002 00000000 00010000 0005 01 12345 {name}")
        };
        let found = by_address(&line("@sendfd/1/17/99/63"), 17);
        assert_eq!(found, Port::from_signal(63).ok().map(|port| (99, port)));
        for other in [
            "@sendfd/1/18/99/63",
            "@sendfd/1/17/99/63/rx/00",
            "@sendfd/1/17/99/7",
            "/run/x",
        ] {
            assert_eq!(by_address(&line(other), 17), None, "{other}");
        }
    }

    #[test]
    fn markers() {
        assert_eq!(
            by_marker("/memfd:sendfd:1:63:5:77 (deleted)"),
            Port::from_signal(63).ok()
        );
        assert_eq!(by_marker("/memfd:other:1:63"), None);
    }
}
