//! `sendfd watch`.

use std::io::Write as _;

use sendfd_core::{Receiver, ReceiverOptions, Wait};

use crate::args::WatchArgs;
use crate::exit::Result;
use crate::paint::DIM;
use crate::{arrival, recv};

pub(crate) fn run(args: &WatchArgs) -> Result<()> {
    let options = ReceiverOptions::new().uids(&args.uid);
    let receiver = Receiver::open_with(args.port, &options)?;
    let (pid, port) = (std::process::id(), args.port);
    writeln!(
        anstream::stderr(),
        "{DIM}process {pid} listens: sendfd send {pid} {port} --fd N{DIM:#}"
    )?;
    let mut dropped = 0;
    loop {
        let message = recv::next(&receiver, Wait::Forever)?;
        let line = if args.json {
            arrival::json(&message)
        } else {
            arrival::words(&message)
        };
        writeln!(anstream::stdout(), "{line}")?;
        if receiver.dropped() > dropped {
            dropped = receiver.dropped();
            writeln!(
                anstream::stderr(),
                "{dropped} dropped so far: from users that are not accepted (--uid), or not of this library"
            )?;
        }
    }
}
