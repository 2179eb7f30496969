"""Fetch a task's published data: gone on with after a broken connection, checked by digest, unpacked safely.

What lies in the folder under its own name is whole: files and folders are renamed to it when they are complete.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pooch
import requests
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from bundle.published import SOURCES, Archive, Source

ROOT = Path(__file__).resolve().parent.parent
TRIES = 5  # attempts at a file whose connection breaks
PAUSE = 1.0  # s before the second attempt, one more before each further one
TIMEOUT = 60.0  # s without a byte
CHUNK = 2**16  # bytes: what is lost at most when a connection breaks
IDENTITY = {"Accept-Encoding": "identity"}  # lengths and ranges are the file's, not those of a compressed form
GROWS = 2.0  # room that unpacking needs, as a multiple of the archive: NSynth 1.6, MagnaTagATune's joined zip 2.0
UNPACKING = ".unpack-"  # prefix of the folder that an archive is unpacked in
# What damaged archives raise; RuntimeError: a zip with a password or by an unknown method
DAMAGED = (ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def add_arguments(verbs) -> None:
    """Declare `python -m bundle download`."""
    parser = verbs.add_parser("download", help="fetch a task's published data", description=__doc__)
    parser.add_argument("task", choices=list(SOURCES))
    parser.add_argument("--out", type=Path, help="folder that gets the data (default: data/<task> in the bundle)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Download; 0 when all is there, 1 with the reason when it is not."""
    folder = (options.out or ROOT / "data" / options.task).expanduser()
    try:
        download(SOURCES[options.task], folder)
    except (OSError, ValueError) as error:
        print(f"download: {error}", file=sys.stderr)
        return 1
    look = f"python -m bundle doctor --task {options.task} --data {folder}"
    print(f"{options.task} is complete in {folder}. Look at it with: {look}")
    return 0


def download(source: Source, folder: Path) -> None:
    """Fetch and unpack all that is not there yet; called again, it goes on where it was stopped.

    Parameters
    ----------
    source : Source
        One of `published.SOURCES`. Of one without an address, files obtained by hand are compared with their digests.
    folder : Path
        Gets what the archives give, in the published layout, and the archives under `archives/`.

    Raises
    ------
    ValueError
        If a file differs from the published digest, or an archive is damaged or would write outside the folder.
    OSError
        If the disk has no room, a file cannot be had, or another download works in the same folder.
    """
    if not source.base:
        return _compare_given(source, folder)
    store = folder / "archives"
    store.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / ".lock", timeout=0):
            for left in folder.glob(f"{UNPACKING}*"):
                shutil.rmtree(left)
            missing = [each for each in source.archives if not all((folder / name).exists() for name in each.gives)]
            _check_room(source.base, missing, folder)
            for archive in missing:
                _obtain(source.base, archive, folder)
    except Timeout as error:
        raise BlockingIOError(f"{folder}: another download works here. Wait for it, or choose --out.") from error


def _compare_given(source: Source, folder: Path) -> None:
    missing = [archive for archive in source.archives if not (folder / archive.gives[0]).is_file()]
    if missing:
        wanted = "\n".join(f"  {archive.gives[0]}  {archive.digest or 'no digest published'}" for archive in missing)
        raise FileNotFoundError(
            f"{source.note} Put these files into {folder} and run it again, which compares their digests:\n{wanted}"
        )
    for archive in source.archives:
        path = folder / archive.gives[0]
        algorithm, _, wanted = archive.digest.rpartition(":")
        found = pooch.file_hash(path, algorithm or "sha256")
        if wanted and found != wanted:
            raise ValueError(f"{path}: found {algorithm} {found}, expected {wanted} as published. Get the file again.")
        print(f"{path.name}: {algorithm or 'sha256'} {found}" + (" as published" if wanted else "; none is published"))


def _check_room(base: str, missing: Sequence[Archive], folder: Path) -> None:
    """Refuse to begin when the disk cannot take the archives and what they unpack to."""
    need = 0.0
    for archive in missing:
        for path in (folder / "archives" / part for part in archive.parts):
            length = path.stat().st_size if path.is_file() else _ask(f"{base}/{path.name}")[0]
            need += length * (not path.is_file()) + GROWS * length * archive.packed
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(
            f"{folder}: {free / 1e9:.1f} GB free, expected {need / 1e9:.1f} GB for the archives and what they unpack "
            "to. Free some, or choose another disk with --out; nothing was fetched."
        )


def _obtain(base: str, archive: Archive, folder: Path) -> None:
    paths = [folder / "archives" / part for part in archive.parts]
    for path in paths:
        fetch(f"{base}/{path.name}", path, archive.digest)
        words = f"{archive.digest} as published" if archive.digest else "no digest is published"
        print(f"{path.name}: {path.stat().st_size:,} bytes, {words}")
    if not archive.packed:
        os.replace(paths[0], folder / archive.gives[0])
        return
    try:
        unpack(paths, folder, archive.gives)
    except ValueError:
        for path in paths:
            path.unlink()
        raise
    print(f"{', '.join(archive.gives)}: unpacked. Its archive in {paths[0].parent} is no longer needed.")


def fetch(url: str, path: Path, digest: str = "") -> None:
    """Fetch one file, unless it is there with its digest; what comes with another digest is refused and removed."""
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, digest or None, path.name, path.parent, downloader=_go_on)
    except requests.RequestException as error:
        raise OSError(
            f"{url}: {error}; expected the file. What came of it is kept: run it again and it goes on from there. If "
            f"the file has moved, put {path.name} into {path.parent} by hand."
        ) from error


def _go_on(url: str, output_file: str, _: pooch.Pooch | None) -> None:
    """Download as pooch does, but by way of NAME.part and behind what is in it; pooch then compares the digest."""
    part = Path(output_file).with_name(f"{url.rsplit('/', 1)[1]}.part")
    for attempt in range(1, TRIES + 1):
        try:
            length, ranges = _ask(url)
            with part.open("ab") as file:
                if not ranges or file.tell() > length:
                    file.truncate(0)
                    file.seek(0)
                if not length or file.tell() < length:
                    bar = tqdm(total=length or 1, desc=part.stem, unit="B", unit_scale=True, disable=None)
                    headers = IDENTITY | ({"Range": f"bytes={file.tell()}-"} if ranges else {})
                    get = pooch.HTTPDownloader(bar, chunk_size=CHUNK, timeout=TIMEOUT, headers=headers)
                    get(url, file, None)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == TRIES:
                raise
            time.sleep(attempt * PAUSE)
    os.replace(part, output_file)


def _ask(url: str) -> tuple[int, bool]:
    """Length of a file, 0 when the server does not say, and whether the server sends parts of it."""
    response = requests.head(url, allow_redirects=True, timeout=TIMEOUT, headers=IDENTITY)
    known = response.headers if response.ok else {}
    length = int(known.get("Content-Length", 0))
    return length, bool(length) and known.get("Accept-Ranges") == "bytes"


def unpack(parts: Sequence[Path], folder: Path, gives: Sequence[str]) -> None:
    """Unpack a tar, or a zip in one or more pieces, into a temporary folder, and rename the entries `gives`.

    Raises
    ------
    ValueError
        If the archive is damaged, lacks one of `gives`, or has a member that is a link, a device, or named outside
        the folder. Nothing of it is kept.
    """
    with tempfile.TemporaryDirectory(prefix=UNPACKING, dir=folder) as temporary:
        content = Path(temporary) / "content"
        content.mkdir()
        try:
            if ".tar" in parts[0].suffixes:
                _untar(parts[0], content)
            else:
                _unzip(parts, content)
            missing = [entry for entry in gives if not (content / entry).exists()]
            if missing:
                found = ", ".join(sorted(path.name for path in content.iterdir())[:6]) or "nothing"
                raise ValueError(f"it holds {found}; {', '.join(missing)} missing")
        except DAMAGED as error:
            if getattr(error, "errno", None) not in (None, errno.EINVAL):  # the disk's fault, such as no room
                raise
            wanted = f"expected an archive with {', '.join(gives)}. Run it again to fetch it anew."
            raise ValueError(f"{parts[0]}: refused and removed ({error}), {wanted}") from error
        for entry in gives:
            if not (folder / entry).exists():
                os.rename(content / entry, folder / entry)


def _untar(path: Path, content: Path) -> None:
    with tarfile.open(path) as tar, tqdm(desc=f"unpack {path.name}", unit="file", disable=None) as bar:
        while (member := tar.next()) is not None:
            if not (member.isreg() or member.isdir()):
                raise ValueError(f"its member {member.name!r} is a link or device")
            tar.extract(member, content, filter="data")  # refuses what lies outside
            tar.members = []  # 300,000 of them would take hundreds of megabytes
            bar.update()


def _unzip(parts: Sequence[Path], content: Path) -> None:
    with tempfile.TemporaryFile(dir=content.parent) as joined:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, joined, 2**20)
        with zipfile.ZipFile(joined) as archive:
            for member in tqdm(archive.infolist(), desc=f"unpack {parts[0].name}", unit="file", disable=None):
                name = PurePosixPath(member.filename)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"its member {member.filename!r} lies outside")
                archive.extract(member, content)  # a link becomes a plain file
