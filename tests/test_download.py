"""Downloads from a real server on localhost that cuts, refuses and sends the wrong file; and bad archives."""

import contextlib
import hashlib
import io
import itertools
import shutil
import tarfile
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bundle import download
from bundle.__main__ import main
from bundle.download import unpack
from bundle.published import COUNTS, SOURCES, Archive, Source

BODY = np.random.default_rng(0).bytes(300_000)  # no compression, no repetition: every byte tells


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`, ranges of them if `server.ranges`; while `server.cut`, only half of what is asked for."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range", "")
        start = int(asked[6:-1]) if server.ranges else 0
        body = server.files.get(self.path[1:], b"")[start:]
        server.asked.append((self.path[1:], start))
        self.send_response(404 if self.path[1:] not in server.files else 206 if server.ranges else 200)
        if server.length is not None:
            self.send_header("Content-Length", str(server.length(len(body))))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if server.cut else body)


def packed(pack, *members):
    """Bytes of a tar or zip: pairs of a name, a TarInfo or a ZipInfo, and its bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") if pack == "tar.gz" else zipfile.ZipFile(out, "w") as archive:
        for name, body in members:
            if pack == "zip":
                archive.writestr(name, body)
            else:
                info = tarfile.TarInfo(name) if isinstance(name, str) else name
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


@pytest.fixture
def server(monkeypatch):
    """One tar, one file that is used as it is, and one zip in three pieces, as the task's published data."""
    notes = packed("tar.gz", ("nsynth-test/examples.json", b"{}"), ("nsynth-test/audio/a.wav", BODY))
    whole = packed("zip", ("0/a.mp3", BODY), ("f/b.mp3", BODY[::-1]))
    pieces = {f"mp3.zip.00{n + 1}": whole[n * 250_000 : (n + 1) * 250_000] for n in range(3)}
    tar = Archive(("test.tar.gz",), ("nsynth-test",), f"md5:{hashlib.md5(notes).hexdigest()}")
    archives = (tar, Archive(("tags.csv",), ("tags.csv",)), Archive(tuple(pieces), ("0", "f")))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files = {"test.tar.gz": notes, "tags.csv": b"clip_id\tmp3_path\n", **pieces}
        server.asked, server.ranges, server.cut, server.length = [], True, False, int
        monkeypatch.setitem(SOURCES, "nsynth", Source(f"http://127.0.0.1:{server.server_port}", archives))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetch(folder, task="nsynth"):
    return main(["download", task, "--out", str(folder)])


def test_archives_are_fetched_checked_joined_and_unpacked_once(server, tmp_path):
    for _ in range(2):
        assert fetch(tmp_path) == 0
        found = files(tmp_path)
        assert found["nsynth-test/audio/a.wav"] == found["0/a.mp3"] == found["f/b.mp3"][::-1] == BODY
        assert len(server.asked) == 5
        assert set(found) == {
            "nsynth-test/examples.json", "nsynth-test/audio/a.wav", "tags.csv", "0/a.mp3", "f/b.mp3",
            "archives/test.tar.gz", *(f"archives/mp3.zip.00{n}" for n in (1, 2, 3)),
        }  # fmt: skip


@pytest.mark.parametrize("ranges", [True, False])
def test_the_next_call_goes_on_where_a_connection_broke(server, tmp_path, ranges, capsys):
    server.ranges, server.cut = ranges, True
    half = len(server.files["test.tar.gz"]) // 2
    assert fetch(tmp_path) == 1
    assert "Run it again: it goes on." in capsys.readouterr().err
    assert set(files(tmp_path)) == {"archives/test.tar.gz.part"}
    server.cut = False
    assert fetch(tmp_path) == 0
    held = half // 2**16 * 2**16 if ranges else 0  # whole chunks are kept
    assert server.asked[:2] == [("test.tar.gz", 0), ("test.tar.gz", held)]
    assert files(tmp_path)["archives/test.tar.gz"] == server.files["test.tar.gz"]


@pytest.mark.parametrize(
    ("length", "gone", "words"),
    [
        (int, True, "test.tar.gz: the server answers 404 Not Found."),
        (None, False, "test.tar.gz: the server does not say how long the file is."),
    ],
)
def test_what_a_server_refuses_or_leaves_open_is_said_in_words(server, tmp_path, capsys, length, gone, words):
    server.length = length
    if gone:
        server.files.pop("test.tar.gz")
    assert fetch(tmp_path) == 1
    told = capsys.readouterr().err
    assert words in told
    assert "A file that moved may be put into" in told
    assert set(files(tmp_path)) <= {"archives/test.tar.gz.part"}


def test_more_than_was_announced_is_not_taken(tmp_path, monkeypatch):
    class Answer:
        ok, status_code, headers = True, 200, {"Content-Length": "10"}

        def iter_content(self, _):
            yield from itertools.repeat(b"1234567")

    monkeypatch.setattr(download.requests, "get", lambda *_, **__: contextlib.nullcontext(Answer()))
    with pytest.raises(download.requests.RequestException, match="more comes than the 10 bytes announced"):
        download._go_on("http://x/a.zip", str(tmp_path / "a.zip"), None)


@pytest.mark.parametrize("pack", ["tar.gz", "zip"])
def test_an_archive_of_a_thousand_empty_members_is_refused(tmp_path, pack):
    for count, refused in ((1_000, False), (1_001, True)):
        path = tmp_path / f"{count}.{pack}"
        path.write_bytes(packed(pack, ("a/full.wav", BODY[:10]), *((f"a/{number}", b"") for number in range(count))))
        if refused:
            with pytest.raises(ValueError, match=r"refused and removed .more than 1000 members are empty"):
                unpack([path], tmp_path, ["a"])
        else:
            unpack([path], tmp_path, ["a"])
            shutil.rmtree(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["test.tar.gz", "mp3.zip.002"])
def test_a_file_that_is_not_the_published_one_is_refused_and_removed(server, tmp_path, name, capsys):
    right, server.files[name] = server.files[name], b"<html>moved</html>"
    assert fetch(tmp_path) == 1
    words = "does not match the known hash" if name == "test.tar.gz" else "mp3.zip.001: refused and removed ("
    assert words in capsys.readouterr().err
    assert f"archives/{name}" not in files(tmp_path)
    assert not (tmp_path / "0").exists()
    server.files[name] = right
    if name == "test.tar.gz":  # one that is damaged on the disk is fetched again, too
        (tmp_path / "archives" / name).write_bytes(right[:-1] + b"?")
    assert fetch(tmp_path) == 0
    assert files(tmp_path)["0/a.mp3"] == BODY


def test_a_file_or_a_disk_that_cannot_be_had_is_named(server, tmp_path, monkeypatch, capsys):
    del server.files["tags.csv"]
    assert fetch(tmp_path) == 1
    assert "404 Not Found" in capsys.readouterr().err
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 3 * len(server.files["test.tar.gz"]) - 1))
    assert fetch(tmp_path / "full") == 1
    assert "0.0 GB free, expected 0.0 GB for test.tar.gz and what it unpacks to" in capsys.readouterr().err
    assert set(files(tmp_path / "full").values()) == {b""}


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "x/a"
    return info


LINK = zipfile.ZipInfo("x/link")
LINK.external_attr = 0o120777 << 16


@pytest.mark.parametrize(("pack", "member", "words"), [
    ("tar.gz", "x/../../evil", "outside the destination"),
    ("tar.gz", special("x/link", tarfile.SYMTYPE), "'x/link' is a link or device"),
    ("tar.gz", special("x/hard", tarfile.LNKTYPE), "'x/hard' is a link or device"),
    ("tar.gz", special("x/null", tarfile.CHRTYPE), "'x/null' is a link or device"),
    ("zip", "../evil", "'../evil' lies outside"),
    ("zip", "/evil", "'/evil' lies outside"),
])  # fmt: skip
def test_an_archive_that_reaches_outside_is_refused_whole(tmp_path, pack, member, words):
    (tmp_path / "a.zip").write_bytes(packed("zip", (LINK, b"/etc/passwd")))
    unpack([tmp_path / "a.zip"], tmp_path, ["x"])
    assert not (tmp_path / "x" / "link").is_symlink()  # a link in a zip becomes a plain file
    archive, before = tmp_path / f"b.{pack}", files(tmp_path)
    archive.write_bytes(packed(pack, ("x/a", b"x"), (member, b"")))
    with pytest.raises(ValueError, match=words):
        unpack([archive], tmp_path, ["x"])
    assert files(tmp_path) == before
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("pack", ["tar.gz", "zip"])
def test_damage_and_missing_folders_are_refused(tmp_path, pack):
    whole = packed(pack, ("x/a", BODY), ("y/b", BODY))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for body in (whole[:-5000], bytes(damaged), b"", b"nothing of the kind", whole):
        (tmp_path / f"a.{pack}").write_bytes(body)
        with pytest.raises(ValueError, match=r"refused and removed \(z missing" if body is whole else "and removed"):
            unpack([tmp_path / f"a.{pack}"], tmp_path, ["x", "z"])
        assert files(tmp_path) == {}


def test_the_course_arrays_are_asked_for_and_compared(tmp_path, capsys, monkeypatch):
    assert fetch(tmp_path, "languages") == 1
    assert "they have no public address. Put inputs_train_fp16.npy, targets_" in capsys.readouterr().err
    for archive in SOURCES["languages"].archives:
        (tmp_path / archive.gives[0]).write_bytes(b"other")
    assert fetch(tmp_path, "languages") == 1
    assert "inputs_train_fp16.npy: another file than the published one" in capsys.readouterr().err
    digest = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    given = [replace(archive, digest=archive.digest and digest) for archive in SOURCES["languages"].archives]
    monkeypatch.setitem(SOURCES, "languages", replace(SOURCES["languages"], archives=tuple(given)))
    assert fetch(tmp_path, "languages") == 0
    assert "python -m bundle doctor --task languages" in capsys.readouterr().out


def test_the_published_numbers_are_those_of_the_papers():
    assert [sum(COUNTS[name].values()) for name in ("NSynth", "MagnaTagATune, original")] == [305_979, 25_863]
