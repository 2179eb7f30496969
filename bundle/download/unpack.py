"""Unpack an archive so that nothing is written outside its folder and a folder that exists is whole."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

BOMB = 20, 2**26  # unpacking to more than this multiple of the archive's size, and more than these bytes, is refused
TEMPORARY = ".unpack-"  # prefix of the folders of an unpacking that was interrupted


class Refused(ValueError):
    """A file that is not what was published: damaged, another one, or one that would write where it should not."""


def unpack(parts: Sequence[Path], folder: Path, gives: Sequence[str]) -> None:
    """Unpack a tar or zip archive into a temporary folder, check it, and rename what it gives.

    Parameters
    ----------
    parts : sequence of Path
        The archive, or the pieces of one zip in order.
    folder : Path
        Gets the entries `gives`; one that is there already is left alone.
    gives : sequence of str
        Names the archive must hold at its top.

    Raises
    ------
    Refused
        If the archive is damaged, lacks one of `gives`, unpacks to far more than its size, or has a member that is a
        link, a device, or named outside the folder. Nothing of it is kept.
    """
    name, size = parts[0].name, sum(path.stat().st_size for path in parts)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    content = temporary / "content"
    content.mkdir()
    written = 0
    try:
        whole = parts[0] if len(parts) == 1 else _join(parts, temporary / "joined")
        extract = _tar if ".tar" in parts[0].suffixes else _zip
        for length in tqdm(extract(whole, content), desc=f"unpack {name}", unit="file", disable=None):
            written += length
            if written > max(BOMB[0] * size, BOMB[1]):
                raise Refused(f"it unpacks to more than {BOMB[0]} times its size")
        missing = [entry for entry in gives if not (content / entry).exists()]
        if missing:
            found = ", ".join(sorted(path.name for path in content.iterdir())[:6]) or "nothing"
            raise Refused(f"it holds {found}; {', '.join(missing)} missing")
        for entry in gives:
            if not (folder / entry).exists():
                os.rename(content / entry, folder / entry)
    except (Refused, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # A zip with a password or an unknown method raises RuntimeError or its child NotImplementedError
        raise Refused(f"{name}: refused ({error}), expected an archive with {', '.join(gives)}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _join(parts: Sequence[Path], path: Path) -> Path:
    with path.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, file, 2**20)
    return path


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise Refused(f"its member {name!r} lies outside")


def _tar(path: Path, folder: Path) -> Iterator[int]:
    """Extract member by member, yielding the size of each before it is written."""
    try:
        with tarfile.open(path) as tar:
            while (member := tar.next()) is not None:
                _check_name(member.name)
                if not (member.isreg() or member.isdir()):
                    raise Refused(f"its member {member.name!r} is a link or device")
                yield member.size
                tar.extract(member, folder, filter="data")
                tar.members = []  # 300,000 of them would take hundreds of megabytes
            while tar.fileobj.read(2**20):  # gzip's checksum stands behind the end of the tar
                pass
    except OSError as error:
        if error.errno is None:  # gzip: not a gzipped file, or its checksum fails
            raise Refused(str(error)) from error
        raise


def _zip(path: Path, folder: Path) -> Iterator[int]:
    """Extract member by member, yielding the size of each before it is written; checksums are zipfile's."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            _check_name(member.filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"its member {member.filename!r} is a link or device")
            yield member.file_size
            archive.extract(member, folder)
