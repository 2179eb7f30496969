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
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm.auto import tqdm

from bundle.published import SOURCES, Source

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 60.0  # s without a byte
MOST_EMPTY = 1_000  # members of an archive; MagnaTagATune's has three
GROWS = 2.0  # room that unpacking needs, as a multiple of the archive: NSynth 1.6, MagnaTagATune's joined zip 2.0
# What damaged archives raise; RuntimeError: a zip with a password or by an unknown method
DAMAGED = (ValueError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError)


def add_arguments(verbs) -> None:
    """Declare `python -m bundle download`."""
    parser = verbs.add_parser("download", help="fetch a task's published data", description=__doc__)
    parser.add_argument("task", choices=list(SOURCES))
    parser.add_argument("--out", type=Path, help="folder that gets the data (default: data/<task> in the bundle)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Download; 0 when all is there, 1 with the reason when it is not."""
    folder = (options.out or ROOT / "data" / options.task).expanduser()
    source = SOURCES[options.task]
    try:
        download(source, folder) if source.base else compare_given(source, folder)
    except (OSError, ValueError) as error:
        print(f"download: {error}", file=sys.stderr)
        if isinstance(error, requests.RequestException):
            print(f"Run it again: it goes on. A file that moved may be put into {folder}/archives.", file=sys.stderr)
        return 1
    look = f"python -m bundle doctor --task {options.task} --data {folder}"
    print(f"{options.task} is complete in {folder}. Look at it with: {look}")
    return 0


def compare_given(source: Source, folder: Path) -> None:
    """Ask for files that have no public address; compare those that are there with their digests."""
    files = {folder / archive.gives[0]: archive.digest for archive in source.archives}
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{source.note} Put {', '.join(missing)} into {folder} and run it again to check them.")
    for path, digest in files.items():
        algorithm, _, wanted = digest.partition(":")
        if wanted and pooch.file_hash(path, algorithm) != wanted:
            raise ValueError(f"{path}: another file than the published one, expected {digest}. Get it again.")


def download(source: Source, folder: Path) -> None:
    """Fetch and unpack into `folder` all that is not there yet; archives are kept under `archives/`."""
    pooch.get_logger().setLevel("WARNING")
    for archive in source.archives:
        if all((folder / name).exists() for name in archive.gives):
            continue
        paths = [folder / "archives" / part for part in archive.parts]
        for path in paths:
            url = f"{source.base}/{path.name}"
            pooch.retrieve(url, archive.digest or None, path.name, path.parent, downloader=_go_on)
        if archive.parts == archive.gives:
            os.replace(paths[0], folder / archive.gives[0])
        else:
            unpack(paths, folder, archive.gives)
        print(f"{', '.join(archive.gives)}: complete, {archive.digest or 'no digest is published'}")


def _go_on(url: str, output_file: str, _: pooch.Pooch | None) -> None:
    """Download as pooch does, but by way of NAME.part and behind what is in it; pooch then compares the digest."""
    part = Path(output_file).with_name(f"{url.rsplit('/', 1)[1]}.part")
    with part.open("ab") as file:
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={file.tell()}-"}  # a range of the file as it is
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code in (200, 416):  # all of it comes, or the file has become a shorter one
                file.truncate(0)
            if not answer.ok:
                raise requests.HTTPError(f"{url}: the server answers {answer.status_code} {answer.reason}.")
            if not (length := answer.headers.get("Content-Length", "")).isdecimal():
                raise requests.RequestException(f"{url}: the server does not say how long the file is.")
            held, left = part.stat().st_size, int(length)
            need, free = left + GROWS * (held + left), shutil.disk_usage(part.parent).free
            if need > free:
                raise OSError(
                    f"{part.parent}: {free / 1e9:.1f} GB free, expected {need / 1e9:.1f} GB for {part.stem} and what "
                    "it unpacks to. Free some, or choose another disk with --out."
                )
            with tqdm(desc=part.stem, initial=held, total=held + left, unit="B", unit_scale=True, disable=None) as bar:
                for chunk in answer.iter_content(2**16):
                    bar.update(file.write(chunk))
                    if file.tell() > held + left:
                        raise requests.RequestException(f"{url}: more comes than the {left:,} bytes announced.")
    os.replace(part, output_file)


def unpack(parts: Sequence[Path], folder: Path, gives: Sequence[str]) -> None:
    """Unpack a tar, or a zip in pieces, elsewhere, and move the entries `gives` into `folder`; all of them or none."""
    print(f"{parts[0].name}: unpacking")
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as content:
        try:
            _extract(parts, content)
            if missing := sorted(set(gives) - set(os.listdir(content))):
                raise ValueError(f"{', '.join(missing)} missing")
        except DAMAGED as error:
            if getattr(error, "errno", None) not in (None, errno.EINVAL):  # the disk's fault, such as no room
                raise
            for path in parts:
                path.unlink()
            raise ValueError(f"{parts[0]}: refused and removed ({error}). Run it again to fetch it anew.") from error
        for entry in gives:
            if not (folder / entry).exists():
                os.rename(Path(content) / entry, folder / entry)


def _extract(parts: Sequence[Path], content: str) -> None:
    """Write the members into a folder, unless one is named outside it; links and devices of a tar are refused, too."""

    empty = 0

    def count_empty(size: int) -> None:
        nonlocal empty
        if (empty := empty + (not size)) > MOST_EMPTY:
            raise ValueError(f"more than {MOST_EMPTY} members are empty")

    def plain(member: tarfile.TarInfo, content: str) -> tarfile.TarInfo | None:
        if member.isreg():
            count_empty(member.size)
        if not (member.isreg() or member.isdir()):
            raise ValueError(f"its member {member.name!r} is a link or device")
        return tarfile.data_filter(member, content)  # refuses what lies outside

    if ".tar" in parts[0].suffixes:
        with tarfile.open(parts[0]) as tar:
            tar.extractall(content, filter=plain)
        return
    with tempfile.TemporaryFile(dir=content) as joined:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, joined)
        with zipfile.ZipFile(joined) as archive:
            for entry in archive.infolist():
                name = PurePosixPath(entry.filename)
                if not entry.is_dir():
                    count_empty(entry.file_size)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"its member '{name}' lies outside")
            archive.extractall(content)  # a link becomes a plain file
