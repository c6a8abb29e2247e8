"""Sends its standard input: send.py PID SIG."""

import sys

import sendfd

sendfd.send(int(sys.argv[1]), int(sys.argv[2]), sys.stdin)
