"""Write files and folders whole or not at all: under a temporary name beside their place, renamed when complete."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

HOST = re.sub(r"[^A-Za-z0-9]+", "-", platform.node())
COMPLETE = ".complete"  # folder of files that belong together and are all written, on their way to their places


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process uses, and that says who uses it."""
    return path.with_name(f".{path.stem}.{HOST}-{os.getpid()}-{token_hex(4)}{path.suffix}")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed have left in a folder under temporary names."""
    if os.name != "posix" or not folder.is_dir():
        return
    for name in os.listdir(folder):
        found = re.fullmatch(rf"\..*\.{re.escape(HOST)}-(\d+)-[0-9a-f]{{8}}(\.\w+)?", name)
        if found and not _runs(int(found[1])):
            remove(folder / name)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or folder that takes its place when all went well; else it is removed.

    A file replaces the one that was there. A folder does not: what is there by now was made by another run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = temporary_name(path)
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError:
            if not (temporary.is_dir() and path.is_dir()):
                raise
    finally:
        remove(temporary)


@contextmanager
def together(root: Path) -> Iterator[Path]:
    """A folder for files that replace those of the same names under `root`: all of them or none.

    One rename decides. Whoever is killed after it has left all files under COMPLETE, and `finish` moves them on.
    """
    root.mkdir(parents=True, exist_ok=True)
    remove_leftovers(root)
    staged = temporary_name(root / "staged")
    staged.mkdir()
    try:
        yield staged
        finish(root)
        os.replace(staged, root / COMPLETE)
        finish(root)
    finally:
        remove(staged)


def finish(root: Path) -> None:
    """Move files to their places under `root` that a killed process has left complete; whoever reads them calls it."""
    complete = root / COMPLETE
    if not complete.is_dir():
        return
    for path in sorted(path for path in complete.rglob("*") if path.is_file()):
        place = root / path.relative_to(complete)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(path, place)
        except FileNotFoundError:
            pass  # another process finishes it, too
    remove(complete)
