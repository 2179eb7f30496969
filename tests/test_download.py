"""Downloads from a real server on localhost that cuts, refuses and sends the wrong file; and bad archives."""

import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bundle import download as module
from bundle.__main__ import main
from bundle.download import CHUNK, download, fetch, unpack
from bundle.published import COUNTS, SOURCES, Archive, Source

BODY = np.random.default_rng(0).bytes(300_000)  # no compression, no repetition: every byte tells


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; the next of `server.tricks`, if any, cuts the answer or is its status."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        server = self.server
        server.asked.append((self.path[1:], self.headers.get("Range")))
        self.answer(True, server.tricks.pop(0) if server.tricks else "")

    def answer(self, with_body, trick=""):
        body = self.server.files.get(self.path[1:])
        if body is None or trick.isdigit():
            return self.send_error(int(trick or 404))
        asked = self.headers.get("Range") if self.server.ranges else None
        body = body[int(asked[6:-1]) :] if asked else body
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if trick == "cut" else body)
        return None


@pytest.fixture
def server(monkeypatch):
    """A server with `files`, `tricks`, `ranges`, `asked` and its address in `base`; nobody waits between attempts."""
    monkeypatch.setattr(module, "PAUSE", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.tricks, server.asked, server.ranges = {"x": BODY}, [], [], True
        server.base = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def md5(body):
    return f"md5:{hashlib.md5(body).hexdigest()}"


def tar(*members):
    """Bytes of a tar: pairs of a name, or a TarInfo, and its bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, body in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def zipped(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return out.getvalue()


@pytest.fixture
def source(server):
    """One tar, one file that is used as it is, and one zip in three pieces."""
    notes = tar(("nsynth-test/examples.json", b"{}"), ("nsynth-test/audio/a.wav", BODY))
    whole = zipped(("0/a.mp3", BODY), ("f/b.mp3", BODY[::-1]))
    pieces = {f"mp3.zip.00{n + 1}": whole[n * 250_000 : (n + 1) * 250_000] for n in range(3)}
    server.files |= {"test.tar.gz": notes, "tags.csv": b"clip_id\tmp3_path\n", **pieces}
    return Source(server.base, (
        Archive(("test.tar.gz",), ("nsynth-test",), md5(notes)),
        Archive(("tags.csv",), ("tags.csv",)),
        Archive(tuple(pieces), ("0", "f")),
    ))  # fmt: skip


def files(folder):
    """Every file below a folder but the lock, with its bytes."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(".lock")}


def test_archives_are_fetched_checked_joined_and_unpacked_once(source, server, tmp_path, capsys):
    (tmp_path / ".unpack-abc" / "content").mkdir(parents=True)  # of an interrupted run
    download(source, tmp_path)
    found, asked = files(tmp_path), len(server.asked)
    assert found["nsynth-test/audio/a.wav"] == found["0/a.mp3"] == BODY
    assert set(found) == {
        "nsynth-test/examples.json", "nsynth-test/audio/a.wav", "tags.csv", "0/a.mp3", "f/b.mp3",
        "archives/test.tar.gz", *(f"archives/mp3.zip.00{n}" for n in (1, 2, 3)),
    }  # fmt: skip
    assert f"bytes, {source.archives[0].digest} as published\n" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))
    download(source, tmp_path)
    assert (files(tmp_path), len(server.asked)) == (found, asked)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_gone_on_with_where_it_broke(server, tmp_path, ranges):
    server.ranges, server.tricks = ranges, ["cut", "cut"]
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY))
    assert files(tmp_path) == {"x": BODY}
    starts = [0, 2 * CHUNK, 3 * CHUNK] if ranges else [None] * 3  # halves of what lacked, in whole chunks
    assert [asked and int(asked[6:-1]) for _, asked in server.asked] == starts


def test_a_later_call_goes_on_unless_the_file_became_another_one(server, tmp_path):
    for body in (BODY, BODY[::-1], BODY[:1000]):
        server.files["x"], server.tricks = BODY, ["cut", "503"]
        with pytest.raises(OSError, match=r"/x: 503 .*; expected the file\. What came of it is kept: run it again"):
            fetch(f"{server.base}/x", tmp_path / "x", md5(body))
        assert files(tmp_path) == {"x.part": BODY[: 2 * CHUNK]}
        server.files["x"] = body
        if body == BODY[::-1]:  # as long, so that only the digest tells
            with pytest.raises(ValueError, match=f"expected {md5(body)} but got"):
                fetch(f"{server.base}/x", tmp_path / "x", md5(body))
            assert files(tmp_path) == {}
        fetch(f"{server.base}/x", tmp_path / "x", md5(body))
        assert files(tmp_path) == {"x": body}
        (tmp_path / "x").unlink()


@pytest.mark.parametrize(("name", "gone"), [("test.tar.gz", True), ("mp3.zip.002", False)])
def test_a_file_that_is_not_the_published_one_is_refused_and_removed(source, server, tmp_path, name, gone):
    right, server.files[name] = server.files[name], b"<html>moved</html>"
    with pytest.raises(ValueError, match=r"does not match the known hash" if gone else r"refused and removed \("):
        download(source, tmp_path)
    assert f"archives/{name}" not in files(tmp_path)
    assert not (tmp_path / "0").exists()
    server.files[name] = right
    download(source, tmp_path)
    assert files(tmp_path)["0/a.mp3"] == BODY


def test_an_archive_damaged_on_the_disk_is_fetched_again(source, server, tmp_path):
    path = tmp_path / "archives" / "test.tar.gz"
    path.parent.mkdir()
    path.write_bytes(server.files["test.tar.gz"][:-1] + b"?")
    download(source, tmp_path)
    assert path.read_bytes() == server.files["test.tar.gz"]


def test_a_file_or_server_that_is_not_there_is_named(server, tmp_path):
    with pytest.raises(OSError, match=r"404 .*/y; expected the file.*If the file has moved, put y into .* by hand"):
        fetch(f"{server.base}/y", tmp_path / "y")
    assert len(server.asked) == 1
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/x: .*refused"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x")


def test_nothing_is_fetched_onto_a_disk_without_room(source, server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2_699_000))  # 0.9 MB to fetch, 1.8 MB unpacked
    with pytest.raises(OSError, match=r"0\.0 GB free, expected 0\.0 GB for the archives.*nothing was fetched"):
        download(source, tmp_path)
    assert server.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2_710_000))
    download(source, tmp_path)


def test_two_downloads_in_one_folder_do_not_meet(source, tmp_path, monkeypatch):
    def meanwhile(*_):
        with pytest.raises(BlockingIOError, match="another download works here"):
            download(source, tmp_path)

    monkeypatch.setattr(module, "_check_room", lambda *_: monkeypatch.undo() or meanwhile())
    download(source, tmp_path)


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


LINK = zipfile.ZipInfo("x/link")
LINK.external_attr = 0o120777 << 16


@pytest.mark.parametrize(("name", "make", "member", "words"), [
    ("a.tar.gz", tar, "../evil", "outside the destination"),
    ("a.tar.gz", tar, "x/../../evil", "outside the destination"),
    ("a.tar.gz", tar, special("x/link", tarfile.SYMTYPE, "/etc/passwd"), "'x/link' is a link or device"),
    ("a.tar.gz", tar, special("x/hard", tarfile.LNKTYPE, "x/a"), "is a link or device"),
    ("a.tar.gz", tar, special("x/null", tarfile.CHRTYPE), "is a link or device"),
    ("a.zip", zipped, "../evil", "'../evil' lies outside"),
    ("a.zip", zipped, "/evil", "'/evil' lies outside"),
])  # fmt: skip
def test_an_archive_that_reaches_outside_is_refused_whole(tmp_path, name, make, member, words):
    (tmp_path / name).write_bytes(make(("x/a", b"x"), (member, b"")))
    with pytest.raises(ValueError, match=words):
        unpack([tmp_path / name], tmp_path, ["x"])
    assert list(files(tmp_path)) == [name]
    assert not (tmp_path.parent / "evil").exists()


def test_a_link_in_a_zip_becomes_a_plain_file(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped((LINK, b"/etc/passwd")))
    unpack([tmp_path / "a.zip"], tmp_path, ["x"])
    assert not (tmp_path / "x" / "link").is_symlink()
    assert files(tmp_path)["x/link"] == b"/etc/passwd"


@pytest.mark.parametrize(("name", "make"), [("a.tar.gz", tar), ("a.zip", zipped)])
def test_damage_and_missing_folders_are_refused(tmp_path, name, make):
    whole = make(("x/a", BODY), ("y/b", BODY))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for body in (whole[:-5000], bytes(damaged), b"", b"nothing of the kind", whole):
        (tmp_path / name).write_bytes(body)
        words = r"it holds x, y; z missing\), expected an archive with x, z" if body is whole else "refused and removed"
        with pytest.raises(ValueError, match=words):
            unpack([tmp_path / name], tmp_path, ["x", "z"])
        assert list(files(tmp_path)) == [name]


def test_the_course_arrays_are_asked_for_and_compared(tmp_path, capsys, monkeypatch):
    arguments, source = ["download", "languages", "--out", str(tmp_path)], SOURCES["languages"]
    assert main(arguments) == 1
    words = capsys.readouterr().err
    assert "they have no public address. Put these files into" in words
    assert f"inputs_train_fp16.npy  {source.archives[0].digest}" in words
    for archive in source.archives:
        (tmp_path / archive.gives[0]).write_bytes(b"other")
    assert main(arguments) == 1
    assert "inputs_train_fp16.npy: found sha256 d9298a10d1b0735837dc4bd85dac641b0f3cef27" in capsys.readouterr().err
    digest = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    given = [replace(archive, digest=archive.digest and digest) for archive in source.archives]
    monkeypatch.setitem(SOURCES, "languages", replace(source, archives=tuple(given)))
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.endswith("as published") for line in said] == [True, False, True, False, False]
    assert "python -m bundle doctor --task languages" in said[-1]


def test_the_published_facts_agree():
    counts = COUNTS["NSynth"]
    assert sum(counts.splits.values()) == sum(counts.classes.values()) == 305_979
    assert [archive.gives[0] for archive in SOURCES["nsynth"].archives] == [
        "nsynth-test",
        "nsynth-valid",
        "nsynth-train",
    ]
    assert sum(COUNTS["MagnaTagATune, original"].splits.values()) == 25_863
    assert sum(COUNTS["course arrays"].splits.values()) == sum(COUNTS["course arrays"].classes.values()) == 7_200
