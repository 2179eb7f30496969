"""Downloads from a real server on localhost that cuts, lies and sends the wrong file; and bad archives."""

import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bundle.__main__ import main
from bundle.download import fetch as module
from bundle.download.fetch import download, fetch
from bundle.download.unpack import Refused, unpack
from bundle.published import COUNTS, SOURCES, Archive, Source

BODY = np.random.default_rng(0).bytes(300_000)  # no compression, no repetition: every byte tells


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; the next of `server.tricks`, if any, says what goes wrong."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server, head = self.server, self.command == "HEAD"
        server.asked.append((self.command, self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        trick = "" if head or not server.tricks else server.tricks.pop(0)
        body = server.files.get(self.path.lstrip("/"))
        if body is None or trick.isdigit() or (head and server.head_fails):
            return self.send_error(int(trick) if trick else 405 if body is not None else 404)
        total, start = len(body), 0
        asked = self.headers.get("Range")
        if asked and trick != "ignore range" and self.headers.get("If-Range") in (None, server.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= total:
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + (trick == 'other range')}-{total - 1}/{total}")
        else:
            self.send_response(200)
        length = total - start + {"too long": 1000, "too short": -1000}.get(trick, 0)
        if trick != "no length":
            self.send_header("Content-Length", str(length))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if head:
            return None
        sent = body[start:]
        if trick.startswith("cut"):
            sent = sent[: len(sent) // 2]
        self.wfile.write(sent)
        self.wfile.flush()
        if trick == "cut hard":
            self.connection.shutdown(2)
        return None


@pytest.fixture
def server():
    """A server with `files`, `tricks`, `etag`, `asked` and its address in `base`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.tricks, server.asked, server.etag, server.head_fails = {}, [], [], '"one"', False
        server.base = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def md5(body):
    return f"md5:{hashlib.md5(body).hexdigest()}"


def tar(*members, mode="w:gz"):
    """Bytes of a tar: (name, bytes) or a TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            body = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()


def zipped(*members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return out.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


NOTES = tar(("nsynth-test/examples.json", b"{}"), ("nsynth-test/audio/a.wav", BODY))


@pytest.fixture
def source(server):
    """One tar, one file that is used as it is, and one zip in three pieces."""
    whole = zipped(("0/a.mp3", BODY), ("f/b.mp3", BODY[::-1]))
    pieces = {f"mp3.zip.00{n + 1}": whole[n * 250_000 : (n + 1) * 250_000] for n in range(3)}
    server.files |= {"test.tar.gz": NOTES, "tags.csv": b"clip_id\tmp3_path\n", **pieces}
    return Source(server.base, (
        Archive(("test.tar.gz",), ("nsynth-test",), md5(NOTES)),
        Archive(("tags.csv",), ("tags.csv",)),
        Archive(tuple(pieces), ("0", "f")),
    ))  # fmt: skip


def tree(folder):
    """Every file below a folder with its digest, hidden ones as well."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_archives_are_fetched_checked_joined_and_unpacked(source, tmp_path):
    said = []
    download(source, tmp_path, said.append, pause=0)
    found = tree(tmp_path)
    assert found["nsynth-test/audio/a.wav"] == hashlib.sha256(BODY).hexdigest() == found["0/a.mp3"]
    assert {path for path in found if not path.startswith("archives")} == {
        "nsynth-test/examples.json", "nsynth-test/audio/a.wav", "tags.csv", "0/a.mp3", "f/b.mp3",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == [
        ".lock", "mp3.zip.001", "mp3.zip.001.sha256", "mp3.zip.002", "mp3.zip.002.sha256", "mp3.zip.003",
        "mp3.zip.003.sha256", "tags.csv.sha256", "test.tar.gz",
    ]  # fmt: skip
    assert f"{md5(NOTES)[4:]} as published" in said[0]
    recorded = (tmp_path / "archives" / "tags.csv.sha256").read_text()
    assert recorded == f"{found['tags.csv']}  tags.csv\n"


def test_a_second_call_asks_for_nothing_and_changes_nothing(source, server, tmp_path):
    download(source, tmp_path, [].append, pause=0)
    before, asked, said = tree(tmp_path), len(server.asked), []
    download(source, tmp_path, said.append, pause=0)
    assert (tree(tmp_path), len(server.asked)) == (before, asked)
    assert said == ["nsynth-test: already there", "tags.csv: already there", "0, f: already there"]


@pytest.mark.parametrize("cut", ["cut", "cut hard"])
def test_a_cut_connection_is_resumed_where_it_broke(server, tmp_path, cut):
    server.files["x"], server.tricks = BODY, [cut, cut, cut, "503", cut, cut, cut]  # more often than TRIES
    words = fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    assert (tmp_path / "x").read_bytes() == BODY
    assert "as published" in words
    ranges = [int(asked[2][6:-1]) for asked in server.asked if asked[2]]
    assert len(server.asked) == 8
    assert ranges == sorted(ranges)
    assert ranges[0] >= (len(BODY) // 2 - module.CHUNK)
    assert {asked[3] for asked in server.asked[1:]} == {'"one"'}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_later_call_goes_on_from_what_an_earlier_one_kept(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["cut"] + ["500"] * 10
    with pytest.raises(ConnectionError, match=r"5 attempts in a row brought nothing new.*150,000 bytes are kept: run"):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.part", "x.part.json"]
    server.tricks = []
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    assert server.asked[-1][2] == "bytes=150000-"
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["cut", "ignore range"]
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_file_that_changed_in_between_is_fetched_from_its_beginning(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["cut"] + ["500"] * 5
    with pytest.raises(ConnectionError):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    server.files["x"], server.etag, server.tricks = BODY[::-1], '"two"', []
    fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert (tmp_path / "x").read_bytes() == BODY[::-1]


def test_a_part_of_unknown_origin_is_not_built_upon(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["cut"]
    (tmp_path / "x.part").write_bytes(b"something else")
    fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_wrong_range_and_one_past_the_end_start_over(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["cut", "other range"]
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    server.files["x"], server.etag, server.tricks = BODY, "", ["cut"] + ["500"] * 5
    (tmp_path / "x").unlink()
    with pytest.raises(ConnectionError):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    server.files["x"], server.tricks = BODY[:1000], []  # shorter by now, and the server names no version
    (tmp_path / "x.sha256").unlink(missing_ok=True)
    fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert (tmp_path / "x").read_bytes() == BODY[:1000]


def test_a_length_that_is_too_long_ends_after_a_few_attempts(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["too long"] * 20
    with pytest.raises(ConnectionError, match=r"ended after 300,000 of 301,000 bytes|starting over"):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert len(server.asked) < 15
    assert not (tmp_path / "x").exists()


def test_a_length_that_is_too_short_is_seen_by_the_digest_or_by_the_archives_end(server, source, tmp_path):
    server.files["x"], server.tricks = BODY, ["too short"]
    with pytest.raises(ValueError, match=r"x: found md5 \w+, expected \w+ as published\. It was not kept"):
        fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    assert list(tmp_path.iterdir()) == []
    archive = replace(source.archives[0], digest="")
    server.tricks = ["too short"]
    with pytest.raises(ValueError, match=r"test\.tar\.gz: refused .* The archive was removed: run it again"):
        download(replace(source, archives=(archive,)), tmp_path, [].append, pause=0)
    assert list(tree(tmp_path)) == ["archives/.lock"]
    download(replace(source, archives=(archive,)), tmp_path, [].append, pause=0)
    assert (tmp_path / "nsynth-test" / "audio" / "a.wav").read_bytes() == BODY


def test_a_wrong_file_is_refused_and_not_kept(source, server, tmp_path):
    server.files["test.tar.gz"] = b"<html>moved</html>"
    with pytest.raises(ValueError, match=r"test\.tar\.gz: found md5 \w{32}, expected \w{32} as published"):
        download(source, tmp_path, [].append, pause=0)
    assert list(tree(tmp_path)) == ["archives/.lock"]


def test_a_file_without_a_length_is_fetched_to_its_end(server, tmp_path):
    server.files["x"], server.tricks = BODY, ["no length"]
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=0)
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_missing_file_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"/x: the server answers 404 Not Found, expected the file\. If it has"):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert len(server.asked) == 1


def test_an_error_of_the_server_is_tried_again(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.files["x"], server.tricks = BODY, ["500", "429", "503"]
    fetch(f"{server.base}/x", tmp_path / "x", md5(BODY), pause=2)
    assert waits == [2, 4, 8]


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/x: 5 attempts in a row .*refused"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", pause=0)


def test_an_archive_damaged_on_the_disk_is_fetched_again(source, server, tmp_path):
    download(source, tmp_path, [].append, pause=0)
    for name in ("nsynth-test", "0"):
        shutil.rmtree(tmp_path / name)
    for name in ("test.tar.gz", "mp3.zip.002"):  # a published and a recorded digest
        path = tmp_path / "archives" / name
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = len(server.asked)
    download(source, tmp_path, [].append, pause=0)
    assert [asked[1] for asked in server.asked[before:]] == ["/test.tar.gz", "/mp3.zip.002"]
    assert (tmp_path / "nsynth-test" / "audio" / "a.wav").read_bytes() == BODY == (tmp_path / "0/a.mp3").read_bytes()


@pytest.mark.parametrize("head_fails", [False, True])
def test_nothing_is_fetched_onto_a_disk_without_room(source, server, tmp_path, monkeypatch, head_fails):
    usage = namedtuple("usage", "total used free")
    server.head_fails = head_fails
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1_000_000))  # 0.9 MB to fetch, 1.8 MB unpacked
    if head_fails:  # then the sizes are not known before
        download(source, tmp_path, [].append, pause=0)
        return
    with pytest.raises(OSError, match=r"0\.0 GB free, expected 0\.0 GB for the archives.*nothing was fetched"):
        download(source, tmp_path, [].append, pause=0)
    assert {asked[0] for asked in server.asked} == {"HEAD"}
    assert list(tree(tmp_path)) == ["archives/.lock"]


def test_a_full_disk_keeps_what_came_and_is_not_tried_again(server, tmp_path, monkeypatch):
    server.files["x"], real = BODY, module._read
    left = [2]

    def read(response):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(response)

    monkeypatch.setattr(module, "_read", read)
    with pytest.raises(OSError, match="No space left"):
        fetch(f"{server.base}/x", tmp_path / "x", pause=0)
    assert len(server.asked) == 1
    assert (tmp_path / "x.part").stat().st_size == 2 * module.CHUNK


def test_two_downloads_in_one_folder_do_not_meet(source, tmp_path):
    inner = []

    def say(_):
        with pytest.raises(BlockingIOError, match="another download works here"):
            download(source, tmp_path, inner.append, pause=0)

    download(source, tmp_path, say, pause=0)
    assert inner == []


def test_what_an_interrupted_unpacking_left_is_removed(source, tmp_path):
    (tmp_path / ".unpack-abc" / "content").mkdir(parents=True)
    download(source, tmp_path, [].append, pause=0)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("member", "words"), [
    (("../evil", b"x"), "its member '../evil' lies outside"),
    (("nsynth-test/../../evil", b"x"), "lies outside"),
    (("/tmp/evil-of-the-test", b"x"), "its member '/tmp/evil-of-the-test' lies outside"),
    (link("nsynth-test/link", "/etc/passwd"), "its member 'nsynth-test/link' is a link or device"),
    (link("nsynth-test/hard", "nsynth-test/a", tarfile.LNKTYPE), "is a link or device"),
    (link("nsynth-test/null", "", tarfile.CHRTYPE), "is a link or device"),
])  # fmt: skip
def test_a_tar_that_reaches_outside_is_refused_whole(tmp_path, member, words):
    (tmp_path / "a.tar.gz").write_bytes(tar(("nsynth-test/a", b"x"), member))
    with pytest.raises(Refused, match=words):
        unpack([tmp_path / "a.tar.gz"], tmp_path, ["nsynth-test"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
    assert not (tmp_path.parent / "evil").exists()
    assert not os.path.exists("/tmp/evil-of-the-test")


def zip_link():
    info = zipfile.ZipInfo("0/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(("member", "words"), [
    ("../evil", "'../evil' lies outside"), ("/evil", "'/evil' lies outside"), (zip_link(), "'0/link' is a link"),
])  # fmt: skip
def test_a_zip_that_reaches_outside_is_refused_whole(tmp_path, member, words):
    (tmp_path / "a.zip").write_bytes(zipped(("0/a", b"x"), (member, b"/etc/passwd")))
    with pytest.raises(Refused, match=words):
        unpack([tmp_path / "a.zip"], tmp_path, ["0"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_damage_a_bomb_and_missing_folders_are_refused(tmp_path, name):
    make = zipped if name == "a.zip" else tar
    whole = make(("x/a", BODY), ("y/b", BODY))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for body, words in [
        (whole[:-5000], "refused"), (bytes(damaged), "refused"), (b"", "refused"), (b"nothing of the kind", "refused"),
        (whole, r"it holds x, y; z missing\), expected an archive with x, z"),
        (make(*((f"x/{n}", bytes(2**24)) for n in range(5))), "it unpacks to more than 20 times its size"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(body)
        with pytest.raises(ValueError, match=words):
            unpack([tmp_path / name], tmp_path, ["x", "z"] if body is whole else ["x"])
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_course_arrays_are_asked_for_and_compared(tmp_path, capsys):
    assert main(["download", "languages", "--out", str(tmp_path)]) == 1
    words = capsys.readouterr().err
    assert "they have no public address. Put these files into" in words
    assert "inputs_train_fp16.npy  sha256:abbb924c7a563cd0fb40a3179b4f37c85bdfbedd16b0be032f989ab6dfbe97fb" in words
    for archive in SOURCES["languages"].archives:
        (tmp_path / archive.gives[0]).write_bytes(b"other")
    assert main(["download", "languages", "--out", str(tmp_path)]) == 1
    assert "inputs_train_fp16.npy: found sha256" in capsys.readouterr().err
    given = replace(SOURCES["languages"], archives=tuple(
        replace(archive, digest=archive.digest and f"sha256:{hashlib.sha256(b'other').hexdigest()}")
        for archive in SOURCES["languages"].archives
    ))  # fmt: skip
    said = []
    download(given, tmp_path, said.append)
    assert len(said) == 4
    assert [("as published" in line, "none is published" in line) for line in said] == [
        (True, False),
        (False, True),
    ] * 2


def test_the_published_addresses_and_counts_belong_together():
    assert {name: len(source.archives) for name, source in SOURCES.items()} == {
        "nsynth": 3, "magnatagatune": 3, "languages": 4,
    }  # fmt: skip
    counts = COUNTS["NSynth"]
    assert sum(counts.splits.values()) == sum(counts.classes[""].values()) == 305_979
    assert sum(COUNTS["MagnaTagATune, original"].splits.values()) == 25_863
    assert [sum(part.values()) for part in COUNTS["course arrays"].classes.values()] == [6000, 1200]
    assert {archive.gives[0] for archive in SOURCES["nsynth"].archives} == set(counts.splits)
