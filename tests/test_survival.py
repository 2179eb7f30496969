"""What happens to packs, predictions and readers when a run is killed, the disk is full, or files are damaged.

Elsewhere: several packings at once and flipped bytes of packs (test_pack), altered weights and code in them
(test_weights), code in label pickles (test_readers), a killed search (test_tuning), downloads (test_download).
"""

import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_predict import call, rows_of, sound, untrained, write

from helpers import audio, data, experiment
from helpers.data import pack
from helpers.data.listing import Item
from helpers.tasks import TAGS, TASKS

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = TASKS["languages"]
SMALL = replace(LANGUAGES, clip_samples=800, window_samples=800)


def speech(folder, count, labels=LANGUAGES.classes):
    """A folder of `count` short recordings of five sounds, in folders named after the languages."""
    for number in range(5):
        write(folder.with_name("sounds") / f"{number}.wav", sound(800 + number, number))
    for number in range(count):
        path = folder / labels[number % len(labels)] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder.with_name("sounds") / f"{number % 5}.wav", path)
    return folder


def packed(cache, listing, task=SMALL):
    """Open a pack; its clips' digests by split."""
    return {split: part.digests.tolist() for split, part in pack.open_packs(listing, task, cache)[0].items()}


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


# --- killed ---


def pack_and_stop(listing, cache, reached):
    """Write a pack; stop for ever at the clip before the last."""
    digests = []

    def digest_rows(rows, real=pack.digest_rows):
        digests.append(1)
        if len(digests) == 399:
            reached.set()
            time.sleep(600)
        return real(rows)

    pack.digest_rows = digest_rows
    pack.open_packs(listing, SMALL, cache)


def test_a_packing_that_is_killed_leaves_nothing_that_is_used_again(tmp_path):
    listing, cache = data.read(SMALL, speech(tmp_path / "speech", 400)), tmp_path / "cache"
    expected = packed(tmp_path / "other", listing)
    context = multiprocessing.get_context("spawn")
    reached = context.Event()
    run = context.Process(target=pack_and_stop, args=(listing, cache, reached))
    run.start()
    assert reached.wait(500)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    (half,) = cache.iterdir()
    assert half.name.startswith(".")
    written = (half / "all.i16").stat().st_size
    assert 0 < written < 400 * 1600
    (half / "all.i16").write_bytes(bytes(written))  # what is there must not matter
    assert packed(cache, listing) == expected
    (whole,) = cache.glob("[!.]*")
    (other,) = (tmp_path / "other").iterdir()
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def started(folder, *options):
    """Start predict.py in `folder` and stop it when the first rows of its table are on the disk."""
    run = subprocess.Popen(
        [sys.executable, ROOT / "predict.py", *options], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while not any(path.stat().st_size for path in folder.glob(".predictions.*.csv")):
        assert run.poll() is None, run.communicate()[0].decode()
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGSTOP)
    return run


@pytest.mark.parametrize("killed", [True, False])
def test_a_run_beside_another_that_goes_on_or_is_killed(tmp_path, monkeypatch, capsys, killed):
    count = 400
    folder, made = speech(tmp_path / "speech", count), untrained(tmp_path / "made", LANGUAGES)
    options = ["--task", "languages", "--data", str(folder), "--weights", str(made)]
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    first = started(tmp_path / "out", *options)
    try:
        half = list(Path().iterdir())
        assert len(half) == 1
        assert half[0].name.startswith(".predictions.")  # nothing has the table's name yet
        assert 0 < half[0].read_bytes().count(b"\n") < count
        done = call(monkeypatch, capsys, *options)
        table = Path("predictions.csv").read_bytes()
        assert (done.code, len(rows_of(Path("predictions.csv")))) == (0, count)
        os.kill(first.pid, signal.SIGKILL if killed else signal.SIGCONT)
        said = first.communicate()[0].decode()
        assert first.returncode == (-signal.SIGKILL if killed else 0), said
    finally:
        first.kill()
    assert Path("predictions.csv").read_bytes() == table
    assert {path.name for path in Path().iterdir()} == {"predictions.csv"} | ({half[0].name} if killed else set())


# --- no room, no right to write ---


def test_a_pack_on_a_full_disk_is_refused_and_nothing_of_it_stays(tmp_path, small_disk):
    few, many = (data.read(SMALL, speech(tmp_path / str(count) / "speech", count)) for count in (50, 2_000))
    before = packed(small_disk / "cache", few)
    with pytest.raises(
        OSError, match=r"cache: the decoded recordings cannot be kept \(No space left on device\), .*3 MiB"
    ):
        pack.open_packs(many, SMALL, small_disk / "cache")
    assert len(list((small_disk / "cache").iterdir())) == 1  # the first pack alone
    assert packed(small_disk / "cache", few) == before
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(OSError, match=r"cache: the decoded recordings cannot be kept \(File exists\), .* Make room"):
        pack.open_packs(few, SMALL, tmp_path / "cache")


def test_predictions_on_a_full_disk_are_refused_and_nothing_of_them_stays(tmp_path, small_disk, monkeypatch, capsys):
    folder, made = speech(tmp_path / "speech", 300), untrained(tmp_path / "made", LANGUAGES)
    (small_disk / "table.csv").write_text("the last run's\n")
    (small_disk / "filler").write_bytes(bytes(2**21 - 3 * 4096))
    out = ["--out", small_disk / "table.csv"]
    done = call(monkeypatch, capsys, "--task", "languages", "--data", folder, "--weights", made, *out)
    assert (done.code, done.out) == (2, "")
    assert "table.csv: cannot be written (No space left on device). Choose another file with --out." in done.err
    assert {path.name for path in small_disk.iterdir()} == {"table.csv", "filler"}
    assert (small_disk / "table.csv").read_text() == "the last run's\n"


def test_a_read_only_bundle_keeps_its_packs_beside_the_results(tmp_path, monkeypatch):
    for number, part in enumerate(f"{split}/{name}" for split in data.SPLITS for name in LANGUAGES.classes):
        write(tmp_path / "speech" / part / "a.wav", sound(40_000, number))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    parameters = {"TASK": "languages", "DATA": str(tmp_path / "speech"), "MODE": "infer", "SEED": 0, "CLASSES": ""}
    experiment.start("01_x", tmp_path / "bundle", parameters | {"OUT": str(tmp_path / "out")})
    assert len(list((tmp_path / "out" / "cache").iterdir())) == 1
    assert not (tmp_path / "bundle").exists()


# --- damaged and oddly named files ---


def encoded(form, wave=None, **options):
    """The bytes of a recording."""
    file = io.BytesIO()
    soundfile.write(file, sound(800) if wave is None else wave, LANGUAGES.rate, format=form, **options)
    return file.getvalue()


NAMES = [
    "with space", "it's \"quoted\"", "two\nlines", "re\rturn", "comma, semi; tab\t", "ñandú-日本-🎵", "-rf", "=1+1",
    "%s{0}", "\\back", "x" * 240, os.fsdecode(b"no utf-8 \xff"),
]  # fmt: skip


def test_odd_file_names_are_predicted_packed_and_listed(tmp_path, monkeypatch, capsys):
    folder, made = tmp_path / "odd", untrained(tmp_path / "made", LANGUAGES)
    for number, name in enumerate(NAMES):
        write(folder / "good.wav", sound(800, number))
        os.rename(folder / "good.wav", folder / f"{name}.wav")
        (folder / f"{name}.mp3").touch()
    options = ["--task", "languages", "--data", folder, "--weights", made, "--out", tmp_path / "t", "--json"]
    done = call(monkeypatch, capsys, *options)
    assert done.code == 0, done.err
    good = {f"{name}.wav".encode(errors="backslashreplace").decode() for name in NAMES}
    assert {row["file"] for row in rows_of(tmp_path / "t")} == good
    left = [line for line in done.err.splitlines() if line.startswith("left out: ")]
    assert len(left) == len(NAMES)  # one line each, whatever is in the name
    assert "left out: 'two\\nlines.mp3': empty file (0 bytes)" in left
    assert "left out: ñandú-日本-🎵.mp3: empty file (0 bytes)" in left
    said = json.loads(done.out.splitlines()[-1])
    assert {name for name, _ in said["unreadable"]["first"]} == {f"{name}.mp3" for name in NAMES}
    listing = data.read_any(LANGUAGES, folder, LANGUAGES.classes)
    for _ in range(2):
        packs, problems, _ = pack.open_packs(listing, SMALL, tmp_path / "cache")
        assert set(packs["all"].names) == {f"{name}.wav" for name in NAMES}
        assert {problem.name for problem in problems} == {f"{name}.mp3" for name in NAMES}
    assert data.digest_of(LANGUAGES.classes, {"train": packs["all"], "valid": packs["all"], "test": packs["all"]})


def test_links_that_lead_nowhere_are_listed(tmp_path):
    write(tmp_path / "good.wav", sound(800))
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    packs, problems, _ = pack.open_packs(
        data.read_any(LANGUAGES, tmp_path, LANGUAGES.classes), SMALL, tmp_path / "cache"
    )
    assert packs["all"].names.tolist() == ["good.wav"]
    assert {(problem.name, problem.reason) for problem in problems} == {
        ("lost.wav", "file is missing"), ("pipe.wav", "file is missing"),
    }  # fmt: skip


# --- fuzz: any bytes are read, or refused in words ---

FUZZ = settings(
    max_examples=60, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def damaged(content):
    """Strategy: these bytes with a few of them changed, put in, or cut off."""
    kinds = st.sampled_from(["flip", "flip", "flip", "over", "in", "cut"])
    change = st.tuples(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=8), kinds)

    def apply(changes):
        raw = bytearray(content)
        for start, new, kind in changes:
            if kind == "cut":
                del raw[start:]
            elif kind == "flip":
                raw[start : start + 1] = bytes(byte ^ (1 << new[0] % 8) for byte in raw[start : start + 1])
            else:
                raw[start : start + len(new) * (kind == "over")] = new
        return bytes(raw)

    return st.lists(change, min_size=1, max_size=4).map(apply) | st.binary(max_size=200)


def attempt(error, function, *arguments):
    """What a function returns, or the words in which it refuses."""
    try:
        return function(*arguments)
    except error as refusal:
        return str(refusal)


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SOUNDS = {"wav": encoded("WAV"), "flac": encoded("FLAC"), "ogg": encoded("OGG"), "mp3": encoded("MP3", sound(8_000)),
          "npy": saved(sound(800).astype(np.float16))}  # fmt: skip


@pytest.mark.parametrize("suffix", SOUNDS)
def test_any_bytes_are_decoded_or_refused(suffix, tmp_path):
    path, outcomes = tmp_path / f"x.{suffix}", set()
    assert len(SOUNDS[suffix]) > 400

    @FUZZ
    @example(SOUNDS[suffix])
    @given(damaged(SOUNDS[suffix]))
    def decode(content):
        path.write_bytes(content)
        found = attempt(audio.BadAudio, audio.decode, path, LANGUAGES.rate)
        outcomes.add("refused" if isinstance(found, str) else "decoded")
        if isinstance(found, str):
            assert found.isprintable()
            assert str(tmp_path) not in found
        else:
            wave, rate = found
            assert (wave.ndim, wave.dtype, bool(len(wave))) == (1, np.float32, True)
            assert np.abs(wave).max() <= 1
            assert rate > 0

    decode()
    assert outcomes == {"decoded", "refused"}


NOTE = "bass_synthetic_033-022-050"
TABLE = "\n".join(["\t".join(["clip_id", "slow", "fast", "mp3_path"]), "2\t1\t0\t0/a-b.mp3", "3\t0\t1\tf/c-d.mp3"])
FRAME = pd.DataFrame({"file_path": ["val/d/x.npy"], "label": [np.eye(len(TAGS))[3]], "part": ["d"]})
LABELS = {
    "examples.json": (
        "nsynth",
        json.dumps({NOTE: {"instrument_family_str": "bass", "instrument_str": "b_1"}}).encode(),
    ),
    "annotations_final.csv": ("magnatagatune", TABLE.encode()),
    "annotations/val_labels.pkl": ("magnatagatune", pickle.dumps(FRAME)),
    "targets_test_int8.npy": ("languages", saved((np.arange(600) % 6).astype(np.int8))),
    "inputs_test_fp16.npy": ("languages", saved(np.zeros((600, 4), dtype=np.float16))),
}


@pytest.mark.parametrize("name", LABELS)
def test_any_labels_are_read_or_refused(name, tmp_path):
    task, content = LABELS[name]
    for other, (_, bytes_) in LABELS.items():
        if other.endswith("npy") and name.endswith("npy"):
            (tmp_path / other).write_bytes(bytes_)
    path, outcomes = tmp_path / name, set()
    path.parent.mkdir(exist_ok=True)
    (tmp_path / f"{NOTE}.wav").touch()

    @FUZZ
    @example(content)
    @given(damaged(content))
    def read(content):
        path.write_bytes(content)
        found = attempt(ValueError, data.read, TASKS[task], tmp_path)
        outcomes.add("refused" if isinstance(found, str) else "read")
        if isinstance(found, str):
            assert str(tmp_path) in found
        else:
            items = [item for items in found.splits.values() for item in items]
            assert all(isinstance(item, Item) and item.path.is_relative_to(tmp_path) for item in items)
            assert {label for item in items for label in item.labels} <= set(found.classes)

    read()
    assert outcomes == {"read", "refused"}
