"""Runs in place of a function process: `python -I -S own_opt.py FOLDER BENEATH [ARGUMENT…]`, with an /opt of its own.

Makes FOLDER the /opt of this process alone, in a mount namespace of its own (user_namespaces(7): no privilege is
needed where the kernel allows it), then becomes the command ARGUMENT…: same process number, session and pipes. With
BENEATH "1" what the machine has in /opt stays visible below FOLDER, for interpreters that live there.

Variables come with an "x" before their names, so that none of them (LD_PRELOAD, PYTHONHOME) means anything yet.
Without a command it only tries, and says on stderr what the kernel refused. Nothing newer than Python 3.11 here.
"""

import ctypes
import os
import sys

_NEW_USER, _NEW_MOUNTS = 0x1000_0000, 0x2_0000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE = 1, 32, 4096, 16384
# nosuid, nodev, noexec, noatime, nodiratime, relatime: what an unprivileged remount must not take away
_LOCKED = 2 | 4 | 8 | 1024 | 2048 | 4096


def main(folder: str, beneath: str, *command: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    user, group = os.geteuid(), os.getegid()
    call("unshare", _NEW_USER | _NEW_MOUNTS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib would cost 5 ms
            file.write(text)
    if beneath == "1":
        layered = os.fsencode(f"lowerdir={folder}:/opt")
        call("mount", b"overlay", b"/opt", b"overlay", ctypes.c_ulong(_READ_ONLY), layered)
    else:
        kept = os.statvfs(folder).f_flag & _LOCKED
        call("mount", os.fsencode(folder), b"/opt", None, ctypes.c_ulong(_BIND | _RECURSIVE), None)
        call("mount", None, b"/opt", None, ctypes.c_ulong(_BIND | _REMOUNT | _READ_ONLY | kept), None)
    if command:
        environment = {name[1:]: value for name, value in os.environb.items() if name.startswith(b"x")}
        os.execve(command[0], command, environment)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as refused:
        sys.exit(str(refused.args[1]) if len(sys.argv) < 4 else f"{sys.argv[3]}: {refused.strerror}")
