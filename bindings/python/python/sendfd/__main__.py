"""python -m sendfd [PID PORT]: say which paths there are, and why others are not."""

from __future__ import annotations

import argparse
import signal
import sys

import sendfd


def main() -> int:
    """Print the report. The exit status is 0 if some path works, 1 if none does."""
    parser = argparse.ArgumentParser(
        prog="python -m sendfd",
        description="Say which paths lead to a process, or (without arguments) which ones this "
        "machine offers at all, and why others do not. Nothing is sent.",
        epilog="The exit status is 0 if a path works, 1 if none does or the process cannot be "
        "probed, 2 for bad usage.",
    )
    parser.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process")
    parser.add_argument(
        "sig",
        nargs="?",
        type=sendfd.parse_port,
        metavar="PORT",
        help="where it listens: 0 to 29 (counted from SIGRTMAX), RTMIN+n, RTMAX-n, or a signal",
    )
    parser.add_argument("--version", action="version", version=f"sendfd {sendfd.__version__}")
    arguments = parser.parse_args()
    if arguments.pid is not None and arguments.sig is None:
        parser.error("PID and PORT go together")
    # Whoever reads only the first lines closes the pipe: that ends this, and is no error to report.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    print(f"sendfd {sendfd.__version__}")
    try:
        report = sendfd.probe(arguments.pid, arguments.sig)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    if arguments.pid is None:
        print("from this process to itself:")
    else:
        print(f"to process {report.pid} at signal {report.sig}:")
    for path, obstacle in report.errors.items():
        print(f"  {path:<8} {_reason(obstacle) if obstacle else 'works'}")
    print(f"a send takes: {report.chosen or 'no path'}")
    return 0 if report.chosen else 1


def _reason(error: OSError) -> str:
    """Leave out what the report's heading says."""
    text = error.strerror or str(error)
    return text.partition(": ")[2] or text


if __name__ == "__main__":
    sys.exit(main())
