"""Run a program as whoever owns a mounted directory, so that the files it leaves on the host belong to that person.

    run_as_owner.py DIRECTORY PROGRAM [ARGUMENT ...]

Started as any user but root, it only runs the program. Started as root it becomes the directory's owner. Where that is
the host's root, it hands the directory to the image's own user instead: root can still read and delete everything in
it, and nothing runs as root. In a rootless engine, uid 0 is the caller and already the right one.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

IMAGE_USER = "app"


def main(argv: list[str]) -> None:
    """Replace this process by the program named in ``argv``."""
    directory, *program = argv
    if os.getuid() == 0:
        become_owner(Path(directory))
    os.execvp(program[0], program)


def become_owner(directory: Path) -> None:
    """Change this process's user and group for good."""
    owner = directory.stat()
    uid, gid = owner.st_uid, owner.st_gid
    if uid == 0:
        if is_user_namespace(Path("/proc/self/uid_map").read_text()):
            return
        image_user = pwd.getpwnam(IMAGE_USER)
        uid, gid = image_user.pw_uid, image_user.pw_gid
        hand_over(directory, uid, gid)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def is_user_namespace(uid_map: str) -> bool:
    """Return whether uid 0 here is somebody else outside.

    >>> is_user_namespace("         0          0 4294967295")
    False
    >>> is_user_namespace("         0       1000          1")
    True
    """
    return uid_map.split() != ["0", "0", "4294967295"]


def hand_over(directory: Path, uid: int, gid: int) -> None:
    """Give ``directory`` and all in it to ``uid``; links are not followed, for they may point anywhere."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


if __name__ == "__main__":
    main(sys.argv[1:])
