"""Fetch the published archives and unpack them. What lies in the folder under its own name is whole and checked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from bundle.download.unpack import TEMPORARY, Refused, unpack
from bundle.published import Archive, Source

TRIES = 5  # attempts in a row that bring nothing new
PAUSE = 1.0  # s before the second attempt, doubled before each further one
TIMEOUT = 60.0  # s without a byte
CHUNK = 2**16  # bytes
GROWS = 2.0  # room that unpacking needs, as a multiple of the archive: NSynth 1.6, MagnaTagATune's joined zip 2.0


def download(source: Source, folder: Path, say: Callable[[str], None] = print, pause: float = PAUSE) -> None:
    """Fetch and unpack all that is not there yet; called again, it goes on where it was stopped.

    Parameters
    ----------
    source : Source
        One of `published.SOURCES`.
    folder : Path
        Gets what the archives give, in the published layout, and the archives with their digests under `archives/`.
    say : callable
        Gets one line per file.
    pause : float
        Seconds before a second attempt; doubled each time.

    Raises
    ------
    FileNotFoundError
        If the server has no such file, or the source has no address and a file is not there.
    ValueError
        If a file differs from the published digest, or an archive is damaged or would write outside the folder.
    OSError
        If the disk has no room, the server cannot be reached, or another download works in the same folder.
    """
    if not source.base:
        return _check_given(source, folder, say)
    store = folder / "archives"
    store.mkdir(parents=True, exist_ok=True)
    with (store / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BlockingIOError(f"{folder}: another download works here. Wait for it, or choose --out.") from error
        for left in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        missing = []
        for archive in source.archives:
            if not all((folder / name).exists() for name in archive.gives):
                missing.append(archive)
            else:
                say(f"{', '.join(archive.gives)}: already there")
        _check_room(source.base, missing, folder, pause)
        for archive in missing:
            paths = [store / part for part in archive.parts]
            for path in paths:
                words = fetch(f"{source.base}/{path.name}", path, archive.digest, pause)
                say(f"{path.name}: {path.stat().st_size:,} bytes, {words}")
            if archive.parts == archive.gives:
                os.replace(paths[0], folder / archive.gives[0])
                continue
            try:
                unpack(paths, folder, archive.gives)
            except Refused as error:
                for path in (*paths, *(_beside(path, ".sha256") for path in paths)):
                    path.unlink(missing_ok=True)
                raise Refused(f"{error} The archive was removed: run it again to fetch it anew.") from error
            say(f"{', '.join(archive.gives)}: unpacked. Its archive under {store} is no longer needed.")


def fetch(url: str, path: Path, digest: str = "", pause: float = PAUSE) -> str:
    """Fetch one file to `path` by way of `path`.part, going on where an earlier attempt broke off.

    Returns
    -------
    words : str
        Which digest it has: the published one, or the one recorded in `path`.sha256.
    """
    record = _beside(path, ".sha256")
    if path.is_file():
        try:
            return _compare(path, digest, record)
        except Refused:  # damaged since it was fetched
            path.unlink()
    part = _beside(path, ".part")
    _persist(url, lambda: _attempt(url, part), pause, lambda: part.stat().st_size if part.is_file() else 0)
    try:
        words = _compare(part, digest, record)
    except Refused as error:
        part.unlink()
        raise Refused(f"{url}: {error}. It was not kept. Try again later, or fetch it elsewhere.") from error
    finally:
        _beside(part, ".json").unlink(missing_ok=True)
    os.replace(part, path)
    return words


def _persist(url: str, action: Callable, pause: float, progress: Callable[[], int] = lambda: 0):
    """Call `action` again after a network error, until TRIES calls in a row have made no progress."""
    best, failed = progress(), 0
    while True:
        try:
            return action()
        except (HTTPException, URLError, ConnectionError, TimeoutError) as error:
            if isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 425, 429):
                raise FileNotFoundError(
                    f"{url}: the server answers {error.code} {error.reason}, expected the file. If it has moved, put "
                    f"{url.rsplit('/', 1)[1]} into the folder 'archives' by hand and run it again."
                ) from error
            failed = 1 if progress() > best else failed + 1  # a slow line may break as often as it likes
            best = max(best, progress())
            if failed >= TRIES:
                raise ConnectionError(
                    f"{url}: {TRIES} attempts in a row brought nothing new (last: {error or type(error).__name__}). "
                    f"{progress():,} bytes are kept: run it again later and it goes on from there."
                ) from error
            time.sleep(pause * 2 ** (failed - 1))


def _attempt(url: str, part: Path) -> None:
    """Ask once for what `part` still lacks; return when it is whole by the server's own word."""
    try:
        known = json.loads(_beside(part, ".json").read_text())
    except (OSError, ValueError):
        known = {}
    total = known.get("length", 0)
    start = part.stat().st_size if total and part.is_file() else 0
    if start and start == total:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.get("mark"):
            headers["If-Range"] = known["mark"]  # the whole file, when it is another one by now
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            part.unlink()
            raise ConnectionError(f"{start:,} bytes are more than the server has; starting over") from error
        raise
    with response:
        if response.status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not found or (int(found[1]), int(found[2])) != (start, total):
                part.unlink()
                raise ConnectionError("the server sent another range than it was asked for; starting over")
        else:  # from the beginning; without its stamp an old part counts for nothing
            start, total = 0, int(response.headers.get("Content-Length") or 0)
            tag = response.headers.get("ETag", "")
            mark = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
            part.unlink(missing_ok=True)
            _beside(part, ".json").write_text(json.dumps({"length": total, "mark": mark}))
        bar = tqdm(total=total or None, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=None)
        with part.open("ab") as file, bar:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size != total:
        raise ConnectionError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def _read(response) -> bytes:
    try:
        return response.read(CHUNK)
    except OSError as error:  # told apart from a full disk, which is not tried again
        raise ConnectionError(str(error)) from error


def _check_room(base: str, missing: list[Archive], folder: Path, pause: float) -> None:
    """Refuse to begin when the disk cannot take the archives and what they unpack to."""
    need = 0.0
    for archive, part in [(each, part) for each in missing for part in each.parts]:
        path = folder / "archives" / part
        have = next((p.stat().st_size for p in (path, _beside(path, ".part")) if p.is_file()), 0)
        length = have if path.is_file() else _persist(part, lambda u=f"{base}/{part}": _length(u), pause)
        need += max(length - have, 0) + GROWS * length * (archive.parts != archive.gives)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(
            f"{folder}: {free / 1e9:.1f} GB free, expected {need / 1e9:.1f} GB for the archives and what they unpack "
            "to. Free some, or choose another disk with --out; nothing was fetched."
        )


def _length(url: str) -> int:
    """Bytes the server says the file has; 0 when it does not say."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=TIMEOUT) as response:
            return int(response.headers.get("Content-Length") or 0)
    except HTTPError as error:
        if error.code in (405, 501):  # a server may know no HEAD
            return 0
        raise


def _check_given(source: Source, folder: Path, say: Callable[[str], None]) -> None:
    """Compare files that were obtained by hand with the published digests."""
    missing = [archive for archive in source.archives if not (folder / archive.gives[0]).is_file()]
    if missing:
        wanted = "\n".join(f"  {archive.gives[0]}  {archive.digest or 'no digest published'}" for archive in missing)
        raise FileNotFoundError(
            f"{source.note} Put these files into {folder} and run it again, which compares their digests:\n{wanted}"
        )
    for archive in source.archives:
        path = folder / archive.gives[0]
        try:
            say(f"{path.name}: {_compare(path, archive.digest, None)}")
        except Refused as error:
            raise Refused(f"{path}: {error}. Get the file again.") from error


def _compare(path: Path, digest: str, record: Path | None) -> str:
    """Check a file against its published digest, else against `record`, which is written when there is none."""
    algorithm, _, wanted = digest.rpartition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm or "sha256").hexdigest()
    words = f"{algorithm or 'sha256'} {found}"
    if digest and found != wanted:
        raise Refused(f"found {words}, expected {wanted} as published")
    if digest:
        return f"{words} as published"
    if record and record.is_file():
        if record.read_text().split()[:1] != [found]:
            raise Refused(f"found {words}, expected the digest in {record}")
        return f"{words} as recorded when first fetched"
    if record:
        record.write_text(f"{found}  {record.stem}\n")
    return f"{words}; none is published" + ", recorded beside it" * bool(record)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
