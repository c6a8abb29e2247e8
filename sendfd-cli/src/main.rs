//! The command `sendfd`: the library for shells and for operators.

// One noun, one file. Each subcommand is a thin client of sendfd-core.
mod activation;
mod address;
mod args;
mod arrival;
mod doctor;
mod exit;
mod list;
mod manual;
mod paint;
mod pool;
mod recv;
mod send;
mod sys;
mod target;
mod timeout;
mod watch;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
use exit::{Code, Failure, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.code != Code::ClosedPipe {
                use std::io::Write as _;
                let bad = paint::BAD;
                let _ = writeln!(anstream::stderr(), "{bad}sendfd:{bad:#} {failure}");
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

fn run() -> Result<()> {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no error.
            if !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            {
                error.exit();
            }
            return Err(Failure::usage(one_line(&error.to_string())));
        }
    };
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // The order between different options is in the matches alone.
    let (_, order) = matches.subcommand().unwrap_or(("", &matches));
    match cli.command {
        Command::Send(args) => send::run(&args, order),
        Command::Recv(args) => recv::run(args, order),
        Command::Doctor(args) => doctor::run(&args),
        Command::List(args) => list::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Pool(args) => pool::run(*args),
        Command::Guard => {
            pool::guard::run();
            Ok(())
        }
        Command::Completions(args) => manual::completions(args.shell),
        Command::Manual(args) => manual::write(&args.folder),
    }
}

/// What clap says in a paragraph: the first part is what is wrong, the rest is the usage again.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let wrong = text.split("\n\nUsage:").next().unwrap_or(text);
    let wrong = wrong
        .split("\n\nFor more information")
        .next()
        .unwrap_or(wrong);
    let words: Vec<&str> = wrong.split_whitespace().collect();
    format!("{} (see --help)", words.join(" "))
}
