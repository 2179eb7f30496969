"""Set a sandbox up from inside, then run the command: `python launch.py SPEC`. Linux; the standard library alone.

`bundle.grade.sandbox` starts it. It leaves the grader's network, processes and writable folders, takes on the limits,
runs the command and ends as it did. What the system refuses is left out and reported as a guard that is not in force.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

GUARDS = ("no network", "only the scratch folder is writable", "own process space", "own user id")
SHARED_BYTES = 256 << 20  # of /dev/shm
# Linux: linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
PRIVATE, BIND, RECURSIVE, READ_ONLY, MOUNT_SETATTR = 1 << 18, 1 << 12, 1 << 14, 1, 442
DEATH_SIGNAL, KEEP_CAPS, NO_NEW_PRIVILEGES, AMBIENT, READ_ANY = 1, 8, 38, 47, 2


def launch(spec: dict) -> None:
    """Leave the grader's network, processes and writable folders, take on the limits, run the command, tell its end."""
    libc, uid, gid = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)
    own = 0 if uid == 0 else NEW_USER
    apart = libc.unshare(own | NEW_NET | NEW_MOUNTS | NEW_PIDS | NEW_IPC) == 0
    offline = apart or libc.unshare(own | NEW_NET) == 0
    if own and offline:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(line)
    if (first := os.fork()) > 0:
        _pass_on(first)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)
    sealed = apart and _seal(libc, spec["box"], spec["hidden"])
    dropped = uid == 0 and _drop(libc, spec["owner"])
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)  # a change of user id clears it
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    limits = {"DATA": spec["memory"], "FSIZE": spec["disk"], "NPROC": spec["processes"], "CORE": 0}
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    os.write(spec["report"], json.dumps(dict(zip(GUARDS, (offline, sealed, apart, dropped), strict=True))).encode())
    os.close(spec["report"])
    if (child := os.fork()) > 0:
        _pass_on(child)
    os.execvp(spec["command"][0], spec["command"])


def _pass_on(child: int) -> None:
    """Wait for `child`, reaping whatever else ends, and end as it did."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _seal(libc: ctypes.CDLL, box: str, hidden: list[str]) -> bool:
    """Make every mounted folder read-only but `box`, with a small /dev/shm of its own, and those `hidden` empty."""
    attributes = ctypes.c_uint64 * 4  # set, clear, propagation, user namespace
    path, here = box.encode(), -100
    done = libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None) == 0
    done = done and libc.mount(path, path, None, BIND, None) == 0
    done = done and libc.syscall(MOUNT_SETATTR, here, b"/", 0x8000, attributes(READ_ONLY), 32) == 0
    done = done and libc.syscall(MOUNT_SETATTR, here, path, 0, attributes(0, READ_ONLY), 32) == 0
    libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, f"size={SHARED_BYTES},mode=1777".encode())
    libc.mount(b"proc", b"/proc", b"proc", 0, None)
    for folder in hidden:
        done = libc.mount(b"tmpfs", folder.encode(), b"tmpfs", READ_ONLY, b"size=4k") == 0 and done
    os.chdir(os.getcwd())  # into the new mount of the same folder
    return done


def _drop(libc: ctypes.CDLL, owner: int) -> bool:
    """As root: become `owner`, who may read what root may and write nothing of root's. False where that is refused."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)(*(1 << READ_ANY,) * 3)  # effective, permitted, inheritable
    libc.prctl(KEEP_CAPS, 1, 0, 0, 0)
    try:
        os.setgroups([])
        os.setresgid(owner, owner, owner)
        os.setresuid(owner, owner, owner)
    except OSError:
        return False
    return libc.capset(header, sets) == 0 and libc.prctl(AMBIENT, 2, READ_ANY, 0, 0) == 0


if __name__ == "__main__":
    launch(json.loads(sys.argv[1]))
