"""`python -m bundle doctor`: every kind of bad recording is found by name, good ones are left alone; the machine."""

import json
import shutil
import subprocess
import sys
import types
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bundle import doctor, doctor_data
from bundle.__main__ import main
from bundle.doctor_data import examine, prominence_db
from bundle.published import COUNTS, EMPTY_MP3S
from helpers.data.listing import Item, Listing
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
RATE = 16_000


def note(seed, pitch=60, seconds=4.0, rate=RATE, peak=0.5):
    """A tone with five partials in a little noise, another one for each seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hertz * k * time + rng.uniform(0, 6)) / k for k in range(1, 6))
    wave += 0.05 * rng.standard_normal(len(time))
    return (peak * wave / np.abs(wave).max()).astype(np.float32)


def noise(seed, slope=0.0, samples=4 * RATE):
    """Noise whose spectrum falls with the frequency to the power `slope`."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    wave = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20) ** (slope / 2), samples)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """NSynth's layout: put(name, wave) writes a note and its entry; three good notes are there."""
    entries = {"train": {}, "test": {}}

    def put(name, wave, split="train", family=None, rate=RATE, listed=True, **form):
        part = tmp_path / f"nsynth-{split}"
        (part / "audio").mkdir(parents=True, exist_ok=True)
        path = part / "audio" / f"{name}.wav"
        if isinstance(wave, bytes):
            path.write_bytes(wave)
        elif wave is not None:
            soundfile.write(path, wave, rate, **form)
        if listed:
            family = family or name.split("_")[0]
            entries[split][name] = {"instrument_family_str": family, "instrument_str": name.split("-")[0]}
        (part / "examples.json").write_text(json.dumps(entries[split]))
        return path

    put("bass_acoustic_000-036-025", note(0, 36))
    put("reed_acoustic_001-060-050", note(1, 60), split="test")
    put("string_acoustic_002-072-127", note(2, 72))
    return types.SimpleNamespace(path=tmp_path, put=put)


def by_name(checks):
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def kinds(checks):
    """Findings about recordings: kind to the names, without reasons."""
    return {check.name: [clip.split(": ")[0].split("/")[-1] for clip in check.clips] for check in checks if check.clips}


def test_good_notes_are_left_alone_and_counted(folder):
    checks = by_name(examine(TASKS["nsynth"], folder.path))
    assert kinds(checks.values()) == {}
    assert "problem" not in {check.state for check in checks.values()}
    assert checks["nsynth-train"].found == "2 clips of 289,205 published: bass 1, string 1"
    assert checks["nsynth-test"].found == "1 clips of 4,096 published: reed 1"
    assert checks["nsynth-valid"].found == "0 clips of 12,678 published"
    assert {checks[f"nsynth-{split}"].state for split in ("train", "valid", "test")} == {"warning"}
    assert checks["groups"].found == "3 groups, each in one split"
    assert checks["recordings"].found.startswith("3 looked at; nothing found under: missing, empty, unreadable, silent")
    assert checks["classes"].found.startswith("no clip of brass, flute")


def test_every_kind_of_bad_note_is_found_under_its_name(folder):
    put = folder.put
    good = soundfile.read(put("bass_acoustic_003-040-025", note(3, 40)))[0]
    put("flute_acoustic_001-060-025", None)
    put("flute_acoustic_002-060-025", b"")
    put("flute_acoustic_003-060-025", np.zeros(0, np.float32))
    put("flute_acoustic_004-060-025", b"RIFF, but nothing that follows")
    put("flute_acoustic_005-060-025", np.full(4 * RATE, np.nan, np.float32), subtype="FLOAT")
    put("flute_acoustic_006-060-025", np.zeros(4 * RATE, np.float32))
    put("flute_acoustic_007-060-025", note(7), family="brass")
    put("kazoo_acoustic_008-060-025", note(8))
    put("flute_acoustic_009-060-025", note(9), listed=False)
    put("flute_acoustic_010-060-025", note(10, rate=8_000), rate=8_000)
    put("flute_acoustic_011-060-025", note(11, seconds=1))
    put("flute_acoustic_012-060-025", note(12, seconds=6))
    put("flute_acoustic_013-060-025", np.clip(4 * note(13), -1, 1))
    put("flute_acoustic_014-060-025", noise(14, 1))
    put("bass_acoustic_015-040-025", good)
    put("mallet_acoustic_016-040-025", good)
    put("bass_acoustic_017-040-025", good, split="test")
    put('a "b"\n\'ü', note(18), family="vocal")
    put("brass_acoustic_046-084-025", noise(19), split="test")
    put("brass_acoustic_046-083-025", note(20, 83), split="test")
    checks = examine(TASKS["nsynth"], folder.path)
    assert kinds(checks) == {
        "missing": ["flute_acoustic_001-060-025"],
        "empty": ["flute_acoustic_002-060-025", "flute_acoustic_003-060-025"],
        "unreadable": ["flute_acoustic_004-060-025", "flute_acoustic_005-060-025"],
        "silent": ["flute_acoustic_006-060-025"],
        "mislabelled": ["flute_acoustic_007-060-025", "kazoo_acoustic_008-060-025"],
        "unlisted": ["flute_acoustic_009-060-025"],
        "other rate": ["flute_acoustic_010-060-025"],
        "short": ["flute_acoustic_011-060-025"],
        "long": ["flute_acoustic_012-060-025"],
        "clipped": ["flute_acoustic_013-060-025"],
        "noise": ["flute_acoustic_014-060-025"],
        "repeated": kinds(checks)["repeated"],  # these three in full below
        "two labels": kinds(checks)["two labels"],
        "leak": kinds(checks)["leak"],
        "known": ["brass_acoustic_046-084-025"],
    }
    found = by_name(checks)
    assert found["repeated"].clips == (
        "nsynth-train/bass_acoustic_015-040-025 (train) = nsynth-train/bass_acoustic_003-040-025 (train)",
        "nsynth-train/mallet_acoustic_016-040-025 (train) = nsynth-train/bass_acoustic_003-040-025 (train)",
    )
    assert found["two labels"].clips == found["repeated"].clips[1:]
    assert found["leak"].clips == (
        "nsynth-test/bass_acoustic_017-040-025 (test) = nsynth-train/bass_acoustic_003-040-025 (train)",
    )
    assert found["known"].clips[0].endswith("noise (magenta/magenta issue 2092); here noise")
    states = {check.name: check.state for check in checks}
    assert {name for name, state in states.items() if state == "problem"} == {
        "missing", "empty", "unreadable", "silent", "mislabelled", "unlisted", "leak", "two labels",
    }  # fmt: skip


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_noise_of_any_colour_is_told_from_notes_of_any_pitch(slope):
    assert max(prominence_db(noise(seed, slope)) for seed in range(5)) < doctor_data.NOISE_DB - 2
    assert min(prominence_db(note(pitch, pitch)) for pitch in range(21, 109, 6)) > doctor_data.NOISE_DB + 2


def test_one_file_that_breaks_the_decoder_does_not_stop_the_rest(folder, monkeypatch):
    real = doctor_data.read_item

    def read_item(item, form):
        if "bass" in item.name:
            raise MemoryError("out of memory")
        return real(item, form)

    monkeypatch.setattr(doctor_data, "read_item", read_item)
    checks = by_name(examine(TASKS["nsynth"], folder.path))
    assert checks["unreadable"].clips == ("nsynth-train/bass_acoustic_000-036-025: MemoryError out of memory",)
    assert checks["recordings"].found.startswith("3 looked at")


def test_an_instrument_in_two_splits_is_a_problem(folder):
    folder.put("bass_acoustic_000-050-025", note(30, 50), split="test")
    check = by_name(examine(TASKS["nsynth"], folder.path))["groups"]
    assert (check.state, check.found[:53]) == ("problem", "1 groups lie both in 'train' and in 'test', expected ")


def test_a_part_given_alone_is_counted_as_what_it_is(folder):
    checks = by_name(examine(TASKS["nsynth"], folder.path / "nsynth-test"))
    assert checks["nsynth-test"].found == "1 clips of 4,096 published: reed 1"
    assert kinds(checks.values()) == {}


def test_a_folder_of_another_layout_is_one_problem(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (check,) = examine(TASKS["nsynth"], tmp_path)
    assert (check.name, check.state) == ("layout", "problem")
    assert "found notes.txt, expected nsynth-train/" in check.found
    (check,) = examine(TASKS["nsynth"], tmp_path / "none")
    assert "found no folder" in check.found


def test_the_empty_mp3s_are_known_and_another_one_is_not(tmp_path):
    names = [f"{name}.mp3" for name in EMPTY_MP3S] + ["0/x-y-01-z-0-29.mp3", "d/v-w-01-z-0-29.mp3"]
    table = ["\t".join(["clip_id", "guitar", "piano", "mp3_path"])]
    for index, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        table.append(f"{index}\t{index % 2}\t1\t{name}")
    soundfile.write(tmp_path / names[-1], note(0, seconds=29.2), RATE, format="MP3")
    (tmp_path / "annotations_final.csv").write_text("\n".join(table))
    checks = by_name(examine(TASKS["magnatagatune"], tmp_path))
    assert checks["known"].clips == tuple(f"{name}: published empty; here empty file (0 bytes)" for name in names[:3])
    assert checks["known"].state == "warning"
    assert checks["empty"].clips == ("0/x-y-01-z-0-29.mp3: empty file (0 bytes)",)
    assert set(kinds(checks.values())) == {"known", "empty"}  # 16 kHz and 29.2 s are as published
    assert checks["train"].found == "4 clips of 18,709 published: guitar 2, piano 4"


def test_counts_of_classes_are_compared_when_all_clips_are_there(tmp_path, monkeypatch):
    arrays = {"train": 12, "test": 6}
    for split, count in arrays.items():
        waves = np.stack([note(index + 100 * (split == "test"), seconds=5, rate=8_000) for index in range(count)])
        np.save(tmp_path / f"inputs_{split}_fp16.npy", waves.astype(np.float16))
        np.save(tmp_path / f"targets_{split}_int8.npy", (np.arange(count) % 6).astype(np.int8))
    small = replace(COUNTS["course arrays"], splits=arrays, classes={
        "train": dict.fromkeys(("de", "en", "es", "fr", "nl", "pt"), 2), "test": {"de": 2, "en": 0},
    })  # fmt: skip
    monkeypatch.setitem(COUNTS, "course arrays", small)
    checks = by_name(examine(TASKS["languages"], tmp_path))
    assert checks["train"].found == "12 clips of 12 published: de 2, en 2, es 2, fr 2, nl 2, pt 2"
    assert (checks["classes test"].state, checks["classes test"].found) == ("problem", "de 1 of 2, en 1 of 0")
    assert "classes train" not in checks
    assert checks["groups"].found == "not known for these data"


def test_memory_does_not_grow_with_the_number_of_recordings(tmp_path, monkeypatch):
    items = [Item(str(index), tmp_path / "x.wav", ("de",), "") for index in range(1000)]
    held, most = set(), [0]

    def look(item, *_):
        held.add(item.name)
        most[0] = max(most[0], len(held))
        return [], f"digest {item.name}"

    monkeypatch.setattr(doctor_data, "_look", look)
    monkeypatch.setattr(doctor_data, "tqdm", lambda **_: Bar(held))
    monkeypatch.setattr(doctor_data.data, "read", lambda *_: Listing("test", ("de", "en"), {"all": items}))
    examine(TASKS["languages"], tmp_path)
    assert most[0] <= doctor_data.CHUNK


class Bar:
    """A progress bar: what was reported is no longer held."""

    def __init__(self, held):
        self.held, self.count = held, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self):
        self.held.discard(str(self.count))
        self.count += 1


def test_the_real_notes_and_labels_hold_no_surprise(real):
    checks = by_name(examine(TASKS["nsynth"], real / "nsynth"))
    assert kinds(checks.values()) == {}
    assert checks["nsynth-train"].found.startswith("111 clips of 289,205 published: bass 11, brass 9")
    checks = by_name(examine(TASKS["magnatagatune"], real / "magnatagatune" / "bristol"))
    assert checks["test"].found.startswith("4,392 clips of 4,392 published: guitar 876")
    assert checks["test"].state == "ok"
    assert len(checks["missing"].clips) == 4392


# The machine


def test_exit_codes_tell_problems_from_warnings(folder, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "environment", lambda: [doctor.Check("x", "warning", "y", "do z")])
    data = ["doctor", "--task", "nsynth", "--data", str(folder.path)]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "environment\n  warning  x: y\n           mend: do z\n\n0 problems, 1 warnings\n"
    assert main(data) == 0
    for index in range(7):
        folder.put(f"flute_acoustic_00{index}-060-025", b"")
    folder.put("a\nb", b"", family="bass")
    capsys.readouterr()
    assert main(data) == 1
    out = capsys.readouterr().out
    assert "  problem  empty: 8 empty\n           nsynth-train/a\\nb: empty file (0 bytes)\n" in out
    assert "… and 3 more (--json names all)\n           mend: Get them again" in out
    assert main([*data, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["problems"]) == (1, 1)
    found = {check["name"]: check for check in content["checks"][f"data nsynth in {folder.path}"]}
    assert len(found["empty"]["clips"]) == 8
    assert main(data[:3]) == 2
    assert "--task and --data belong together" in capsys.readouterr().err


def test_the_command_runs_by_itself():
    done = subprocess.run(
        [sys.executable, "-m", "bundle", "doctor", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    content = json.loads(done.stdout)
    assert done.returncode == (1 if content["problems"] else 0), done.stderr
    names = [check["name"] for check in content["checks"]["environment"]]
    assert {"python", "requirements.txt", "torchaudio", "cores", "memory", "GPU", "bf16 on the CPU", "bundle", "LaTeX",
            "ffmpeg", "SLURM", "git", "weights", "leftovers"} <= set(names)  # fmt: skip


def test_packages_are_compared_with_the_pins(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.13.0 # a\nnumpy==2.4.6 # b\nPretty_midi==1.0 # c\nskops==0.16.0 # d\n")
    have = {"torch": "2.13.0+cu130", "numpy": "2.4.6", "pretty-midi": "1.0", "skops": "0.16.0"}
    assert (doctor.packages(path, have).state, doctor.packages(path, have).found) == ("ok", "4 of 4 as pinned")
    check = doctor.packages(path, have | {"numpy": "2.3.0", "skops": "0.15.0"})
    assert check.state == "warning"
    assert check.found == "2 of 4 as pinned, numpy 2.3.0 (pinned 2.4.6), skops 0.15.0 (pinned 0.16.0)"
    assert check.mend == "python bundle/install.py; a stored SVM is read by the versions that wrote it"
    assert doctor.packages(path, have | {"torch": "2.5.1"}).state == "problem"
    del have["numpy"]
    check = doctor.packages(path, have)
    assert (check.state, check.found) == ("problem", "3 of 4 as pinned, numpy is missing (2.4.6)")
    path = path.rename(tmp_path / "requirements-test.txt")
    assert doctor.packages(path, have).state == "warning"
    assert doctor.packages(path, have).mend == "python -m pip install -r requirements-test.txt"


def test_a_torchaudio_of_another_build_is_named_with_its_mend(monkeypatch):
    import helpers.audio

    helpers.audio.import_torchaudio()
    monkeypatch.setitem(sys.modules, "torchaudio._extension", types.ModuleType("torchaudio._extension"))
    check = doctor.torchaudio()
    assert check.state == "warning"
    assert "its compiled part was built for another torch" in check.found
    assert "one build (both +cpu, or both of one CUDA)" in check.mend
    whole = types.ModuleType("torchaudio._extension")
    whole.__file__ = "x"
    monkeypatch.setitem(sys.modules, "torchaudio._extension", whole)
    assert doctor.torchaudio().state == "ok"

    def fails():
        raise ImportError("no such thing")

    monkeypatch.setattr(helpers.audio, "import_torchaudio", fails)
    check = doctor.torchaudio()
    assert (check.state, "cannot be imported (no such thing)" in check.found) == ("problem", True)


def test_a_gpu_is_named_and_a_driver_without_one_is_a_warning(monkeypatch):
    import torch

    card = types.SimpleNamespace(name="Card", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    found = [check.found for check in doctor.machine() if check.name == "GPU"]
    assert found == [f"Card, 16 GB, bf16, CUDA {torch.version.cuda}"] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    check = by_name(list(doctor.machine()))["GPU"]
    assert (check.state, "sees no GPU" in check.found) == ("warning", True)


def test_a_full_disk_and_one_that_cannot_be_written_are_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, state in ((5e8, "problem"), (5e9, "warning"), (5e11, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        assert {check.state for check in doctor.disks(tmp_path)} == {state}
    monkeypatch.setattr(doctor.os, "access", lambda path, _: path != tmp_path)
    check = by_name(list(doctor.disks(tmp_path)))["bundle"]
    assert (check.state, check.found.endswith("not writable")) == ("warning", True)


def test_programs_that_are_missing_are_named_with_what_they_are_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    states = {check.name: (check.state, check.found) for check in doctor.programs()}
    assert states["LaTeX"] == ("warning", "latexmk, kpsewhich missing")
    assert states["ffmpeg"] == ("warning", "missing")
    assert states["SLURM"][0] == "ok"
    assert states["git"] == ("warning", "missing")
    for name in ("latexmk", "kpsewhich", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    states = {check.name: (check.state, check.found) for check in doctor.programs()}
    assert states["LaTeX"] == ("warning", "IEEEtran.cls missing")
    assert states["SLURM"] == ("ok", "sbatch")
    (tmp_path / "kpsewhich").write_text("#!/bin/sh\necho /texmf/IEEEtran.cls\n")
    assert {check.name: check.state for check in doctor.programs()}["LaTeX"] == "ok"


def test_an_altered_and_a_missing_weights_file_are_found(tmp_path):
    target = tmp_path / "weights" / "nsynth-demo"
    shutil.copytree(ROOT / "weights" / "nsynth-demo", target)
    count = len(list(target.glob("*.json")))
    assert doctor.stored_weights(tmp_path).found == f"{count} models have their digests"
    path = target / "mel_cnn.pt"
    body = bytearray(path.read_bytes())
    body[100] ^= 1
    path.write_bytes(body)
    (target / "svm.skops").unlink()
    check = doctor.stored_weights(tmp_path)
    assert (check.state, check.found) == ("problem", f"{count - 2} models have their digests, 2 not")
    assert "mel_cnn.pt: differs from the digest in mel_cnn.json" in check.clips[0]
    assert "svm.skops" in check.clips[1]


def test_leftovers_of_interrupted_runs_are_listed_with_their_size(tmp_path):
    assert doctor.leftovers(tmp_path).state == "ok"
    for name, size in (("cache/.nsynth-12-x/train.i16", 3_000_000), ("cache/nsynth-12/train.i16", 9),
                       ("data/nsynth/archives/a.tar.gz.part", 1_000_000), ("data/nsynth/.unpack-x/content/a", 10),
                       ("weights/nsynth-demo/.77.mel_cnn.pt", 500)):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    check = doctor.leftovers(tmp_path)
    assert (check.state, check.found) == ("warning", "4 left by interrupted runs, 0.00 GB")
    assert check.clips == (
        "cache/.nsynth-12-x: 3.0 MB", "data/nsynth/.unpack-x: 0.0 MB", "data/nsynth/archives/a.tar.gz.part: 1.0 MB",
        "weights/nsynth-demo/.77.mel_cnn.pt: 0.0 MB",
    )  # fmt: skip
