"""How every program begins and ends: one kind of command line, one message and one exit code for each kind of end."""

from __future__ import annotations

import argparse
import contextlib
import errno
import getpass
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from airquality.ground import log
from airquality.ground.errors import AirQualityError, UsageError
from airquality.ground.proxies import exempt_loopback

VERSION = "0.1.0"

DONE, FAILURE, USAGE = 0, 1, 2
_STANDARD_ERROR = 2
#: A disk or a quota is at its end, also that of standard output.
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: A place that the user has named is not one that can be used, whoever made it so.
_UNUSABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EIO, errno.ESTALE,
)  # fmt: skip
#: What a shell reports of a program that SIGINT, or SIGPIPE, ended.
INTERRUPTED, OUTPUT_CLOSED = 130, 141


class EndedBySignal(KeyboardInterrupt):
    """A signal that ends the program; its number says with which exit code, as a shell has it."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number."""
        return 128 + self.number


def parser(prog: str, description: str, examples: str, *, says_version: bool = True) -> argparse.ArgumentParser:
    """Return an argument parser whose ``--help`` ends with ``examples``.

    Both texts are shown as they stand, line breaks included. An abbreviated flag is an error. ``--version`` prints the
    version of this release, unless the program means something else by it.
    """
    made = _Parser(
        prog=prog,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if says_version:
        made.add_argument("--version", action="version", version=version())
    return made


def positive(text: str) -> float:
    """Return the positive, finite number that an argument is.

    >>> positive("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def count(text: str) -> int:
    """Return the positive whole number that an argument is.

    >>> count("168")
    168
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def port(text: str) -> int:
    """Return the port that an argument is; 0 stands for any that is free."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535, or 0)")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one JSON line where every line has to be."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        if log.is_json():
            log.complain(self.prog, message)
            sys.exit(USAGE)
        super().error(message)


def version() -> str:
    """Return what ``--version`` prints."""
    return f"air-quality-monitoring {VERSION}"


def run(prog: str, work: Callable[[], int | None]) -> int:
    """Run ``work`` and return the exit code of the program ``prog``; None from ``work`` counts as 0.

    A foreseen failure (:class:`~airquality.ground.errors.AirQualityError`) becomes one message on standard error. An error
    nobody foresaw is raised, with its traceback. A reader that closes the output early (``| head``) is no failure. The
    environment is completed first: this machine is never looked for behind a proxy, and everybody has a name and a home.
    """
    _open_closed_streams()
    _name_the_nameless()
    exempt_loopback()
    try:
        code = work() or DONE
        sys.stdout.flush()
    except UsageError as error:
        return _say(prog, error, USAGE)
    except AirQualityError as error:
        return _say(prog, error, FAILURE)
    except EndedBySignal as ended:
        return _say(prog, ended, ended.exit_code)
    except KeyboardInterrupt as interrupt:
        return _say(prog, str(interrupt) or "interrupted", INTERRUPTED)
    except BrokenPipeError:
        discard_output()
        return OUTPUT_CLOSED
    except OSError as error:
        if error.errno in _FULL:
            discard_output()
            return _say(prog, f"{error.filename or 'what it writes'} cannot be written: {error.strerror}", FAILURE)
        if error.filename is None or error.errno not in _UNUSABLE:
            raise
        return _say(prog, _unusable(error), FAILURE)
    return code


def _unusable(error: OSError) -> str:
    place = error.filename if isinstance(error.filename, str) else repr(error.filename)
    return f"{place} cannot be used: {error.strerror}. Name another place, or let this user read and write there"


def _open_closed_streams() -> None:
    """Send nowhere what a shell (``>&-``) or a supervisor has closed.

    Else the next connection takes the number of standard output or error, and what a library prints there goes to Kafka.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _name_the_nameless() -> None:
    """Give a user without a home, or without a line in the password file, what libraries take for granted.

    ``docker -u 12345`` and OpenShift start programs as such a user. Nothing is ever written to that home.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def _say(prog: str, message: object, code: int) -> int:
    with contextlib.suppress(OSError):  # standard error may be a terminal that is gone
        log.complain(prog, str(message))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        return code
    discard_output()
    return code


def discard_output() -> None:
    """Send standard output nowhere: the interpreter flushes it once more on its way out, and that may not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
