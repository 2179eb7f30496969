"""Unpacking a stranger's zip: nothing outside the folder, nothing but plain files, nothing without bounds."""

import os
import stat
import struct
import zipfile

import pytest

from bundle.grade.unpack import Bounds, BrokenSubmission, unpack


def entry(name, mode=0o644, kind=stat.S_IFREG):
    """A zip entry with the name as given, which zipfile would otherwise tidy."""
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = (kind | mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@pytest.fixture
def archive(tmp_path):
    """Write a zip of entries and contents: archive({entry or name: bytes}) -> path."""

    def write(entries):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in entries:
                file.writestr(name, content)
        return path

    return write


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_plain_zip_is_unpacked_with_plain_permissions(archive, tmp_path):
    path = archive([
        (entry("top/a b/ü.txt", 0o4777), "one"), (entry("top\\win.txt"), "two"), ("top/inner.zip", b"PK\3\4"),
        ("__MACOSX/._x", ""), ("top/.DS_Store", ""), (entry("top/empty/", kind=stat.S_IFDIR), ""),
    ])  # fmt: skip
    names = unpack(path, tmp_path / "out")
    assert sorted(names) == ["top/a b/ü.txt", "top/inner.zip", "top/win.txt"]
    assert (tmp_path / "out/top/a b/ü.txt").read_text() == "one"
    assert stat.S_IMODE((tmp_path / "out/top/a b/ü.txt").stat().st_mode) & 0o7111 == 0
    assert everything(tmp_path / "out") == ["top", "top/a b", "top/a b/ü.txt", "top/inner.zip", "top/win.txt"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("../evil.txt", stat.S_IFREG, "leads outside the folder"),
        ("a/../../evil.txt", stat.S_IFREG, "leads outside the folder"),
        ("..\\evil.txt", stat.S_IFREG, "leads outside the folder"),
        ("/tmp/evil.txt", stat.S_IFREG, "leads outside the folder"),
        ("C:\\evil.txt", stat.S_IFREG, "leads outside the folder"),
        ("link", stat.S_IFLNK, "is a link or a device"),
        ("device", stat.S_IFCHR, "is a link or a device"),
        ("pipe", stat.S_IFIFO, "is a link or a device"),
        ("a\x1b[2Jb", stat.S_IFREG, "holds control characters"),
        ("a\nb", stat.S_IFREG, "holds control characters"),
        ("a\0b", stat.S_IFREG, "holds control characters"),
        ("/".join("abcdefghijklmnopqrst"), stat.S_IFREG, "too deep or too long"),
        ("x" * 256, stat.S_IFREG, "too deep or too long"),
    ],
)
def test_names_and_kinds_that_could_do_harm_are_refused(archive, name, kind, words, tmp_path):
    path = archive([("good.txt", "good"), (entry(name, kind=kind), "/etc/passwd")])
    before = everything(tmp_path)
    with pytest.raises(BrokenSubmission, match=words):
        unpack(path, tmp_path / "out")
    assert everything(tmp_path) == before  # not even the good one


@pytest.mark.parametrize(
    ("entries", "bounds", "words"),
    [
        ([("zeros", bytes(20 << 20))], Bounds(free=1 << 20), "too large, or a bomb"),
        ([("zeros", bytes(20 << 20))], Bounds(total=10 << 20), "expected at most 10,485,760"),
        ([(f"{n}", "") for n in range(50)], Bounds(files=49), "50 entries, expected at most 49"),
        ([("a", "1"), (entry("./a"), "2")], Bounds(), "is there twice"),
        ([("a", "1"), ("a/b", "2")], Bounds(), "both a file and a folder"),
    ],
)
def test_bombs_and_contradictions_are_refused_before_anything_is_written(archive, entries, bounds, words, tmp_path):
    path = archive(entries)
    with pytest.raises(BrokenSubmission, match=words):
        unpack(path, tmp_path / "out", bounds)
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_sizes_writes_no_more_than_it_declared(archive, tmp_path):
    path = archive([("zeros", bytes(20 << 20))])
    content = path.read_bytes()
    size = struct.pack("<L", 20 << 20)
    assert content.count(size) == 2  # in the local header and in the directory
    path.write_bytes(content.replace(size, struct.pack("<L", 1000)))
    with pytest.raises(BrokenSubmission, match="not a zip that can be read"):
        unpack(path, tmp_path / "out")
    written = tmp_path / "out/zeros"
    assert not written.exists() or written.stat().st_size <= 1000


def test_entries_that_overlap_count_each(archive, tmp_path):
    path = archive([("a", bytes(4 << 20)), ("b", bytes(4 << 20))])
    with pytest.raises(BrokenSubmission, match="8,388,608 bytes"):
        unpack(path, tmp_path / "out", Bounds(free=6 << 20))


@pytest.mark.parametrize("damage", [b"", b"no zip at all", b"PK\5\6" + bytes(18)[:5], b"PK\3\4" + os.urandom(200)])
def test_what_is_no_zip_is_told_so(damage, tmp_path):
    (tmp_path / "a.zip").write_bytes(damage)
    with pytest.raises(BrokenSubmission, match=r"a\.zip: not a zip that can be read"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_flipped_byte_and_a_password_are_told(archive, tmp_path):
    path = archive([("a.txt", os.urandom(5000))])
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BrokenSubmission, match="Bad CRC"):
        unpack(path, tmp_path / "out")
    content[2000] ^= 1
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1  # the flag of encryption, in the directory
    path.write_bytes(content)
    with pytest.raises(BrokenSubmission, match="is encrypted"):
        unpack(path, tmp_path / "other")


def test_a_missing_zip_is_not_called_broken(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.zip: no such file, expected a zip"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
