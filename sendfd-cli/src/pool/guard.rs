//! The guard: a process of ours that outlives the pool by a moment, to end whatever is left of the workers'
//! process groups. The kernel kills the workers themselves with the pool (PR_SET_PDEATHSIG), but not what
//! they have started.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::exit::{Failure, Result};

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "guard";

/// The pool's end. When it is closed, by whatever end the pool comes to, the guard acts.
#[derive(Debug)]
pub(crate) struct Guard(RefCell<ChildStdin>);

impl Guard {
    pub(crate) fn start() -> Result<Self> {
        let failed = |error| Failure::system(format!("cannot start the pool's guard: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the pool.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let stdin = child
            .stdin
            .take()
            .ok_or_else(|| Failure::system("the guard has no input"))?;
        Ok(Guard(RefCell::new(stdin)))
    }

    pub(crate) fn watch(&self, group: u32) {
        self.tell('+', group);
    }

    /// The group's number may come to mean another's.
    pub(crate) fn forget(&self, group: u32) {
        self.tell('-', group);
    }

    fn tell(&self, sign: char, group: u32) {
        // A guard that was killed is missed when the pool is, too.
        let _ = writeln!(self.0.borrow_mut(), "{sign}{group}");
    }
}

/// The guard itself.
pub(crate) fn run() {
    let mut groups = BTreeSet::new();
    for line in std::io::stdin()
        .lock()
        .lines()
        .map_while(std::io::Result::ok)
    {
        if let Some(group) = line.strip_prefix('+') {
            groups.insert(group.to_owned());
        } else if let Some(group) = line.strip_prefix('-') {
            groups.remove(group);
        }
    }
    for group in groups.iter().filter_map(|group| group.parse().ok()) {
        if let Some(group) = Pid::from_raw(group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
