"""Unpack a stranger's zip without trusting a byte of it: `python unpack.py ARCHIVE FOLDER`. Standard library alone.

`bundle.grade.command` runs it as a process of its own, with bounded memory and time.
"""

from __future__ import annotations

import shutil
import stat
import sys
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CHUNK = 1 << 20
IGNORED = ("__MACOSX/", ".DS_Store", "Thumbs.db")  # what file managers add by themselves


class BrokenSubmission(ValueError):
    """A zip that cannot or must not be unpacked."""


@dataclass(frozen=True)
class Bounds:
    """What a submission may be: bytes in all, bytes per byte of the zip beyond `free`, files, folders above a file."""

    total: int = 2 << 30
    ratio: int = 100
    free: int = 50 << 20
    files: int = 20_000
    depth: int = 16


def unpack(archive: Path, folder: Path, bounds: Bounds = Bounds()) -> list[str]:
    """Write the files of a zip under `folder`; zips inside it stay closed.

    Parameters
    ----------
    archive : Path
    folder : Path
        Made when missing; nothing is written outside it, whatever the names in the zip say.
    bounds : Bounds

    Returns
    -------
    list of str
        Names of the files, with "/" between folders.

    Raises
    ------
    FileNotFoundError
        If there is no such zip.
    BrokenSubmission
        If it is no zip, is damaged or encrypted, holds a link or a device, names a path outside, or exceeds a bound.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"{archive}: no such file, expected a zip. Check the path.")
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not _ignored(entry.filename)]
            _check_size(archive, entries, bounds)
            named = _names(archive, entries, bounds)
            left = sum(entry.file_size for entry in named.values())
            for name, entry in named.items():
                left -= _write(opened, entry, folder / name, left)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, UnicodeError, OSError, ValueError) as error:
        if isinstance(error, BrokenSubmission):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise BrokenSubmission(
            f"{archive.name}: not a zip that can be read ({reason}). Zip the folder again."
        ) from error
    return list(named)


def _ignored(name: str) -> bool:
    return name.startswith(IGNORED[0]) or name.rsplit("/", 1)[-1] in IGNORED[1:]


def _check_size(archive: Path, entries: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    total = sum(entry.file_size for entry in entries)
    allowed = min(bounds.total, max(bounds.free, bounds.ratio * archive.stat().st_size))
    if len(entries) > bounds.files:
        raise BrokenSubmission(
            f"{archive.name}: {len(entries):,} entries, expected at most {bounds.files:,}. Leave data and caches out."
        )
    if total > allowed:
        raise BrokenSubmission(
            f"{archive.name}: {total:,} bytes when unpacked from {archive.stat().st_size:,}, expected at most "
            f"{allowed:,}: too large, or a bomb. Leave data and caches out."
        )


def _names(archive: Path, entries: list[zipfile.ZipInfo], bounds: Bounds) -> dict[str, zipfile.ZipInfo]:
    """The files by safe name; refuses everything that is not a plain file in a folder below."""
    named: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for entry in entries:
        shown = f"{archive.name}: entry {entry.orig_filename[:200]!r}"
        raw = entry.orig_filename.replace("\\", "/")  # some packers of Windows
        parts = [part for part in raw.split("/") if part not in ("", ".")]
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in raw):
            raise BrokenSubmission(f"{shown} holds control characters, expected a printable name. Rename it.")
        if raw.startswith("/") or ":" in raw.split("/")[0] or ".." in parts:
            raise BrokenSubmission(f"{shown} leads outside the folder, expected a relative path. Zip the folder again.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BrokenSubmission(f"{shown} is a link or a device, expected files. Replace it by what it points to.")
        if entry.flag_bits & 1:
            raise BrokenSubmission(f"{shown} is encrypted, expected a zip without password. Zip the folder again.")
        if len(parts) > bounds.depth + 1 or any(len(part.encode()) > 255 for part in parts):
            raise BrokenSubmission(
                f"{shown} is too deep or too long, expected at most {bounds.depth} folders and names of 255 bytes. "
                "Shorten it."
            )
        name = "/".join(parts)
        if raw.endswith("/") or not parts:
            continue
        if name in named:
            raise BrokenSubmission(f"{shown} is there twice, expected once. Zip the folder again.")
        named[name] = entry
        folders.update(str(parent) for parent in PurePosixPath(name).parents)
    for name in named.keys() & folders:
        raise BrokenSubmission(f"{archive.name}: {name!r} is both a file and a folder. Zip the folder again.")
    return named


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Write one file with plain permissions; returns its size, which may not pass `left` whatever the zip declares."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(entry) as source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > left:
                raise BrokenSubmission(f"{entry.filename!r}: larger than the zip says, a bomb. Zip the folder again.")
            target.write(chunk)
    return written


def main() -> int:
    """Unpack; exit code 0, or 3 with the reason on the last line."""
    archive, folder = map(Path, sys.argv[1:3])
    try:
        unpack(archive, folder)
        return 0
    except (BrokenSubmission, FileNotFoundError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        print(error)
        return 3


if __name__ == "__main__":
    sys.exit(main())
