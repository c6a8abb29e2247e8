//! `sendfd doctor`: which paths work, why others do not, what to change, what that costs in safety.

use std::io::Write;

use sendfd_core::{Cause, Denial, Error, Path, PathReport, Report, Target, probe, probe_self};
use serde_json::{Value, json};

use crate::args::DoctorArgs;
use crate::exit::{Code, Failure, Result, code};
use crate::list;
use crate::paint::{BAD, BOLD, DIM, GOOD, WARN};
use sendfd_core::Port;

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    let diagnoses = match &args.target {
        None => vec![Diagnosis::of_machine()?],
        Some(who) => {
            let pid = who.pid()?;
            let ports = match args.port {
                Some(port) => vec![port],
                None => ports(pid)?,
            };
            let diagnose = |port| Diagnosis::of_target(pid, port);
            ports.into_iter().map(diagnose).collect::<Result<_>>()?
        }
    };
    let mut out = anstream::stdout();
    for diagnosis in &diagnoses {
        if args.json {
            writeln!(out, "{}", diagnosis.json())?;
        } else {
            diagnosis.show(&mut out)?;
        }
    }
    // The library's own words, so that no summary says less.
    match diagnoses
        .into_iter()
        .find_map(|diagnosis| diagnosis.refusal)
    {
        Some(error) => Err(Failure::new(code(&error), error.to_string())),
        None => Ok(()),
    }
}

/// The ports that a process listens on.
fn ports(pid: u32) -> Result<Vec<Port>> {
    let ports: Vec<Port> = list::listeners(Some(pid))
        .into_iter()
        .map(|(_, port)| port)
        .collect();
    if !ports.is_empty() {
        return Ok(ports);
    }
    let lives = std::fs::exists(format!("/proc/{pid}")).unwrap_or(false);
    Err(if lives {
        Failure::new(
            Code::NobodyListens,
            format!(
                "process {pid} listens on no port that can be seen from here (start its receiver; if it has one, name the port: sendfd doctor {pid} PORT)"
            ),
        )
    } else {
        Failure::new(Code::NoProcess, format!("there is no process {pid}"))
    })
}

struct Diagnosis {
    /// What was looked at.
    title: String,
    report: Report,
    /// What a send would be told now.
    refusal: Option<Error>,
    facts: Vec<(&'static str, String)>,
}

impl Diagnosis {
    fn of_machine() -> Result<Self> {
        let report = probe_self()?;
        let refusal = match report.chosen() {
            Some(_) => None,
            None => report.paths.iter().rev().find_map(|path| path.error),
        };
        Ok(Diagnosis {
            title: "this machine, as this process sees it".to_owned(),
            report,
            refusal,
            facts: facts(None),
        })
    }

    fn of_target(pid: u32, port: Port) -> Result<Self> {
        let sig = port.signal();
        let report = probe(pid, port)?;
        Ok(Diagnosis {
            title: format!("process {pid} at port {port} (signal {sig})"),
            report,
            refusal: Target::open(pid, port).err(),
            facts: facts(Some(pid)),
        })
    }

    fn show(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out, "{BOLD}{}{BOLD:#}", self.title)?;
        let chosen = self.report.chosen();
        for PathReport { path, error, .. } in &self.report.paths {
            let Some(error) = error else {
                let note = if chosen == Some(*path) {
                    ", and is the one that a send takes"
                } else {
                    ""
                };
                writeln!(out, "  {GOOD}{:<8} works{GOOD:#}{note}", path.as_str())?;
                continue;
            };
            // Most kernels have no such call, and nobody has to mind.
            let expected = *path == Path::Syscall && chosen.is_some();
            let style = if expected { DIM } else { BAD };
            writeln!(out, "  {style}{:<8} fails{style:#}: {error}", path.as_str())?;
            if let Some(advice) = advice(*path, error.cause()).filter(|_| !expected) {
                writeln!(out, "           {WARN}change{WARN:#}: {}", advice.change)?;
                writeln!(out, "           {WARN}cost{WARN:#}:   {}", advice.cost)?;
            }
        }
        for (name, value) in &self.facts {
            writeln!(out, "  {DIM}{name}: {value}{DIM:#}")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let path = |report: &PathReport| {
            let advice = report
                .error
                .and_then(|error| advice(report.path, error.cause()));
            json!({
                "path": report.path.as_str(),
                "works": report.error.is_none(),
                "errno": report.error.map(|error| error.raw_os_error()),
                "why": report.error.map(|error| error.to_string()),
                "change": advice.as_ref().map(|advice| advice.change),
                "cost": advice.as_ref().map(|advice| advice.cost),
            })
        };
        let facts = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        json!({
            "title": self.title,
            "chosen": self.report.chosen().map(Path::as_str),
            "error": self.refusal.map(|error| error.to_string()),
            "errno": self.refusal.map(|error| error.raw_os_error()),
            "paths": self.report.paths.iter().map(path).collect::<Vec<_>>(),
            "facts": facts.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// What can be done about a path that does not lead there.
struct Advice {
    change: &'static str,
    cost: &'static str,
}

fn advice(path: Path, cause: Cause) -> Option<Advice> {
    let (change, cost) = match cause {
        Cause::NotPermitted(Denial::Seccomp) => (
            "allow pidfd_getfd in the container's seccomp profile, or add CAP_SYS_PTRACE; or rely on the name path",
            "with pidfd_getfd a process may copy descriptors out of any process of its own user in the container; CAP_SYS_PTRACE adds their memory. The name path costs nothing",
        ),
        Cause::NotPermitted(Denial::Yama(3)) => (
            "nothing undoes kernel.yama.ptrace_scope=3 but a reboot; rely on the name path",
            "none",
        ),
        Cause::NotPermitted(Denial::Yama(_)) => (
            "start the target as a child of the sender, or send as root; sysctl kernel.yama.ptrace_scope=0 allows it to all; or rely on the name path",
            "with ptrace_scope=0 every process may read the memory of all others of its user. The name path costs nothing",
        ),
        Cause::NotPermitted(Denial::Ptrace) => (
            "send as root, or run both as one user from the start (a process that changed its user is closed to others); or rely on the name path",
            "none for the name path; a sender that is root can do anything anyway",
        ),
        Cause::NotPermitted(Denial::Signal) => (
            "send as root or as the target's user",
            "that user may signal the target as well",
        ),
        Cause::NotPermitted(Denial::Name) => (
            "allow abstract unix sockets in the security module's rules for the sender (Landlock: no LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET; AppArmor: a unix rule)",
            "the sender can then reach every abstract socket of the network namespace that its rules name",
        ),
        Cause::NotAccepted { .. } => (
            "let the target name this user when it opens its receiver (uids; `sendfd recv --uid UID`), or send as the target's user or root",
            "whoever is named can make the target hold descriptors of their choice",
        ),
        Cause::NotListening | Cause::ListensNearby { .. } => (
            "start the target's receiver, or wait for it with a timeout; check the port: RTMIN differs between glibc and musl, ports counted from RTMAX do not",
            "none",
        ),
        Cause::AddressTaken { .. } => (
            "find who sits on the address (ss -xlp) and stop it, then let the target open its receiver again; the pidfd path works meanwhile",
            "none: whoever sits there is sent nothing",
        ),
        Cause::QueueFull => (
            "let the target receive faster, or open its receiver with a longer queue",
            "none",
        ),
        Cause::InboxLost => (
            "let the target look for messages, with which it makes a new inbox; the name path works meanwhile. Whoever did it runs as the target's user, or may trace it",
            "none",
        ),
        Cause::TableFull => (
            "raise RLIMIT_NOFILE (ulimit -n) of this process, or close descriptors",
            "none",
        ),
        Cause::PathNotOffered(_) if path == Path::Syscall => (
            "boot a kernel with sendfd(2) (kernel/README.md), and let the target listen in signal mode; the other paths need neither",
            "a kernel of one's own to keep up to date",
        ),
        Cause::PathNotOffered(_) if path == Path::Pidfd => (
            "Linux 5.6 or later has pidfd_getfd; or rely on the name path",
            "none",
        ),
        Cause::PathNotOffered(_) => (
            "sender and target must share a network namespace for the name path; or rely on pidfd",
            "sharing a network namespace lets each see the other's abstract sockets and ports",
        ),
        _ => return None,
    };
    Some(Advice { change, cost })
}

/// What decides, where it can be read.
fn facts(target: Option<u32>) -> Vec<(&'static str, String)> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned())
    };
    let status = |pid: &str, key: &str| {
        let text = read(&format!("/proc/{pid}/status"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.split_ascii_whitespace().next()?.to_owned())
    };
    let seccomp = |mode: Option<String>| match mode?.as_str() {
        "0" => Some("none".to_owned()),
        "1" => Some("strict".to_owned()),
        _ => Some("a filter".to_owned()),
    };
    let namespace = |pid: &str, kind: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        Some(link.display().to_string())
    };
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("kernel", read("/proc/sys/kernel/osrelease"));
    fact(
        "sendfd(2)",
        read("/proc/sys/kernel/pidfd_sendfd_nr").map(|nr| format!("call {nr}")),
    );
    fact(
        "kernel.yama.ptrace_scope",
        read("/proc/sys/kernel/yama/ptrace_scope"),
    );
    fact("seccomp here", seccomp(status("self", "Seccomp")));
    fact("user here", status("self", "Uid"));
    fact("SENDFD_PATHS", std::env::var("SENDFD_PATHS").ok());
    if let Some(pid) = target.map(|pid| pid.to_string()) {
        fact("user of the target", status(&pid, "Uid"));
        fact("seccomp of the target", seccomp(status(&pid, "Seccomp")));
        for (name, kind) in [
            ("network namespace of the target", "net"),
            ("pid namespace of the target", "pid"),
        ] {
            let (own, other) = (namespace("self", kind), namespace(&pid, kind));
            let differs = other.is_some() && own != other;
            fact(
                name,
                other
                    .filter(|_| differs)
                    .map(|other| format!("{other}, not this one")),
            );
        }
    }
    facts
}
