//! Completions and man pages, made from the command line's own description.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::shells;

use crate::args::{Cli, Shell};
use crate::exit::{Failure, Result};

pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "sendfd", &mut text),
        Shell::Elvish => clap_complete::generate(shells::Elvish, &mut command, "sendfd", &mut text),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "sendfd", &mut text),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "sendfd", &mut text),
    }
    std::io::stdout().write_all(&text)?;
    Ok(())
}

/// sendfd.1, sendfd-send.1 and so on.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::system(format!(
            "cannot write man pages into {}: {error}",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, folder).map_err(failed)
}
