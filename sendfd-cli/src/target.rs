//! TARGET on the command line: a pid, `unit:NAME`, `file:PATH`.

use std::str::FromStr;

use crate::exit::{Code, Failure, Result};

/// Which process is meant.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Pid(u32),
    /// The main process of a unit of systemd.
    Unit(String),
    /// The process whose pid a file holds.
    File(String),
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("unit", name)) if !name.is_empty() => Ok(Who::Unit(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Who::File(path.to_owned())),
            _ => match text.parse() {
                Ok(pid) if pid > 0 && i32::try_from(pid).is_ok() => Ok(Who::Pid(pid)),
                _ => Err("a target is a pid, unit:NAME or file:PATH of a pid file".to_owned()),
            },
        }
    }
}

impl Who {
    /// Its pid, now.
    pub(crate) fn pid(&self) -> Result<u32> {
        match self {
            Who::Pid(pid) => Ok(*pid),
            Who::Unit(name) => unit(name),
            Who::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::new(
                        Code::NoProcess,
                        format!("cannot read the pid file {path}: {error}"),
                    )
                })?;
                let first = text.split_ascii_whitespace().next().unwrap_or_default();
                match first.parse() {
                    Ok(pid) if pid > 0 && i32::try_from(pid).is_ok() => Ok(pid),
                    _ => Err(Failure::usage(format!("{path} holds no pid"))),
                }
            }
        }
    }
}

fn unit(name: &str) -> Result<u32> {
    let output = std::process::Command::new("systemctl")
        .args(["show", "--property=MainPID", "--value", "--", name])
        .output()
        .map_err(|error| {
            Failure::system(format!(
                "cannot ask systemd for the pid of {name}: systemctl: {error} (name the process by its pid)"
            ))
        })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::system(format!(
            "systemctl cannot tell the pid of {name}: {} (name the process by its pid)",
            text.lines().next().unwrap_or_default()
        )));
    }
    match String::from_utf8_lossy(&output.stdout).trim().parse() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(Failure::new(
            Code::NoProcess,
            format!("the unit {name} has no main process (systemctl start {name})"),
        )),
    }
}
