"""`python -m bundle doctor`: data against what was published, the machine and its packages, exit codes."""

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

from bundle import doctor
from bundle.__main__ import main
from bundle.published import COUNTS, EMPTY_MP3S
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent


def by_name(checks):
    checks = list(checks)
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def noise(path, seed, seconds=4, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, seconds * rate), rate, format=path.suffix[1:])


@pytest.fixture
def notes(tmp_path):
    """Two good notes in NSynth's folders train, valid and test, without examples.json."""
    for seed, (split, family) in enumerate((s, f) for s in ("train", "valid", "test") for f in ("bass", "reed")):
        noise(tmp_path / f"nsynth-{split}" / "audio" / f"{family}_acoustic_00{seed}-060-025.wav", seed)
    return tmp_path


def test_good_notes_are_left_alone_and_counted(notes, tmp_path):
    checks = by_name(doctor.examine(TASKS["nsynth"], notes, tmp_path))
    assert "problem" not in {check.state for check in checks.values()}
    assert checks["nsynth-train"].found == "2 clips of 289,205 published"
    assert {checks[f"nsynth-{split}"].state for split in ("train", "valid", "test")} == {"warning"}
    assert checks["recordings"].found == "0 left out of 6"
    checks = by_name(doctor.examine(TASKS["nsynth"], notes / "nsynth-test", tmp_path))
    assert checks["nsynth-test"].found == "2 clips of 4,096 published"  # a part given alone is counted as what it is


def test_what_the_reader_leaves_out_is_listed_with_the_reason(notes, tmp_path):
    train, test = (notes / f"nsynth-{split}" / "audio" for split in ("train", "test"))
    (train / "flute_acoustic_006-060-025.wav").write_bytes(b"")
    noise(train / "kazoo_acoustic_007-060-025.wav", 7)
    shutil.copy(test / "bass_acoustic_004-060-025.wav", train / "bass_acoustic_008-060-025.wav")
    noise(test / "brass_acoustic_046-084-025.wav", 9)
    checks = by_name(doctor.examine(TASKS["nsynth"], notes, tmp_path))
    assert checks["recordings"].state == "problem"
    assert sorted(checks["recordings"].clips) == [
        "nsynth-train/bass_acoustic_008-060-025: the same samples are in the test split",
        "nsynth-train/flute_acoustic_006-060-025: empty file (0 bytes)",
        "nsynth-train/kazoo_acoustic_007-060-025: label outside the classes or contradictory: kazoo",
    ]
    assert checks["known"].clips == ("nsynth-test/brass_acoustic_046-084-025: noise (magenta/magenta issue 2092)",)


def test_an_instrument_in_two_splits_and_another_layout_are_problems(notes, tmp_path):
    (check,) = doctor.examine(TASKS["languages"], notes, tmp_path)
    assert (check.name, check.state) == ("layout", "problem")
    assert "found nsynth-test/, nsynth-train/, nsynth-valid/, expected inputs_train_fp16.npy" in check.found
    noise(notes / "nsynth-test" / "audio" / "bass_acoustic_000-061-025.wav", 9)
    (notes / "nsynth-train" / "audio" / "flute_acoustic_006-060-025.wav").write_bytes(b"")
    checks = by_name(doctor.examine(TASKS["nsynth"], notes, tmp_path))
    assert checks["loading"].state == "problem"
    assert checks["loading"].found.startswith("1 groups lie both in 'train' and in 'test', expected ")
    assert checks["recordings"].clips == ("nsynth-train/flute_acoustic_006-060-025: empty file (0 bytes)",)


def test_the_empty_mp3s_are_known_and_another_one_is_not(tmp_path):
    good = [f"{part}/{part}-album-01-z-0-29.mp3" for part in "0cd"]
    empty = [f"{name}.mp3" for name in EMPTY_MP3S] + ["1/x-y-01-z-0-29.mp3"]
    for seed, name in enumerate(good):
        noise(tmp_path / name, seed, seconds=30)
    for name in empty:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    table = [f"{number}\t{number % 2}\t1\t{name}" for number, name in enumerate(good + empty)]
    (tmp_path / "annotations_final.csv").write_text("\n".join(["clip_id\tguitar\tpiano\tmp3_path", *table]))
    checks = by_name(doctor.examine(TASKS["magnatagatune"], tmp_path, tmp_path))
    assert checks["known"].clips == tuple(f"{name}: published empty" for name in empty[:3])
    assert checks["known"].state == "warning"
    assert checks["recordings"].clips == ("1/x-y-01-z-0-29.mp3: empty file (0 bytes)",)
    assert checks["train"].found == "5 clips of 18,709 published"


def test_counts_of_classes_are_compared_when_all_clips_are_there(tmp_path, monkeypatch):
    for seed, (split, count) in enumerate({"train": 60, "test": 6}.items()):
        waves = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 40_000))
        np.save(tmp_path / f"inputs_{split}_fp16.npy", waves.astype(np.float16))
        np.save(tmp_path / f"targets_{split}_int8.npy", (np.arange(count) % 6).astype(np.int8))
    small = replace(COUNTS["course arrays"], splits={"train": 60, "test": 6}, classes={"de": 11, "en": 12})
    monkeypatch.setitem(COUNTS, "course arrays", small)
    checks = by_name(doctor.examine(TASKS["languages"], tmp_path, tmp_path))
    assert (checks["train"].state, checks["train"].found) == ("ok", "60 clips of 60 published")
    assert (checks["class en"].state, checks["class en"].found) == ("problem", "11 of 12 published")
    assert "class de" not in checks


def test_the_real_notes_and_labels_hold_no_surprise(real):
    checks = by_name(doctor.examine(TASKS["nsynth"], real / "nsynth"))
    assert checks["nsynth-train"].found == "111 clips of 289,205 published"
    assert checks["recordings"].found == "0 left out of 125"
    checks = by_name(doctor.examine(TASKS["magnatagatune"], real / "magnatagatune" / "bristol"))
    assert (checks["val"].state, checks["val"].found) == ("ok", "4,392 clips of 4,392 published")
    assert len(checks["recordings"].clips) == 4392  # their samples are not there


def test_exit_codes_tell_problems_from_warnings(capsys, monkeypatch):
    clips = tuple(f"a\n{number}: empty" for number in range(7))
    checks = [doctor.Check("x", "warning", "y", "do z")]
    monkeypatch.setattr(doctor, "environment", lambda: checks)
    monkeypatch.setattr(doctor, "examine", lambda *_: [doctor.Check("recordings", "problem", "7 left out", "", clips)])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "environment\n  warning  x: y\n           mend: do z\n\n0 problems, 1 warnings\n"
    data = ["doctor", "--task", "nsynth", "--data", "folder"]
    assert main(data) == 1
    out = capsys.readouterr().out
    assert "  problem  recordings: 7 left out\n           a\\n0: empty\n" in out
    assert "           … and 2 more (--json names all)\n" in out
    assert main([*data, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["problems"], content["warnings"]) == (1, 1, 1)
    assert content["checks"]["data nsynth in folder"][0]["clips"] == list(clips)
    assert main(data[:3]) == 2
    assert "--task and --data belong together" in capsys.readouterr().err


def test_the_command_runs_by_itself():
    command = [sys.executable, "-m", "bundle", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    content = json.loads(done.stdout)
    assert done.returncode == (1 if content["problems"] else 0), done.stderr
    names = {check["name"] for check in content["checks"]["environment"]}
    assert names >= {"python", "requirements.txt", "torchaudio", "cores", "GPU", "bundle", "LaTeX", "Chromium", "SLURM"}


def test_packages_are_compared_with_the_pins(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("torch==2.13.0 # a\nnumpy==2.4.6 # b\nPretty_midi==1.0 # c\nskops==0.16.0 # d\n")
    have = {"torch": "2.13.0+cu130", "NumPy": "2.4.6", "pretty-midi": "1.0", "skops": "0.16.0"}
    assert (doctor.packages(path, have).state, doctor.packages(path, have).found) == ("ok", "all as pinned")
    check = doctor.packages(path, have | {"NumPy": "2.3.0", "skops": "0.15.0"})
    assert (check.state, check.found) == ("warning", "numpy 2.3.0 (pinned 2.4.6), skops 0.15.0 (pinned 0.16.0)")
    assert check.mend == "python bundle/install.py; a stored SVM is read by the skops that wrote it"
    assert doctor.packages(path, have | {"torch": "2.5.1"}).state == "problem"
    del have["NumPy"]
    check = doctor.packages(path, have | {"skops": "0.15.0"})
    assert (check.state, check.found) == ("problem", "numpy is missing (2.4.6), skops 0.15.0 (pinned 0.16.0)")
    check = doctor.packages(path.rename(tmp_path / "requirements-test.txt"), have)
    assert (check.state, check.mend) == ("warning", "python -m pip install -r requirements-test.txt")


def test_a_torchaudio_of_another_build_is_named_with_its_mend(monkeypatch):
    doctor.import_torchaudio()
    extension = types.ModuleType("torchaudio._extension")
    monkeypatch.setitem(sys.modules, "torchaudio._extension", extension)
    check = doctor.torchaudio()
    assert (check.state, "its compiled part was built for another torch" in check.found) == ("warning", True)
    assert "one build (both +cpu, or both of one CUDA)" in check.mend
    extension.__file__ = "x"
    assert doctor.torchaudio().state == "ok"

    def fails():
        raise ImportError("no such thing")

    monkeypatch.setattr(doctor, "import_torchaudio", fails)
    check = doctor.torchaudio()
    assert (check.state, check.found) == ("problem", "cannot be imported (no such thing)")


def test_a_gpu_is_named_and_a_driver_without_one_is_a_warning(monkeypatch):
    import torch

    card = types.SimpleNamespace(name="Card", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    found = [check.found for check in doctor.processors() if check.name == "GPU"]
    assert found == [f"Card, 16 GB, CUDA {torch.version.cuda}"] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    check = by_name(doctor.processors())["GPU"]
    assert (check.state, "sees no GPU" in check.found) == ("warning", True)


def test_a_full_disk_and_one_that_cannot_be_written_are_said(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, state in ((5e8, "problem"), (5e9, "warning"), (5e11, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(0, 0, free))
        assert {check.state for check in doctor.disks(tmp_path)} == {state}
    monkeypatch.setattr(doctor.os, "access", lambda path, _: path != tmp_path)
    check = by_name(doctor.disks(tmp_path))["bundle"]
    assert (check.state, check.found.endswith("not writable")) == ("warning", True)


def test_programs_that_are_missing_are_named_with_what_they_are_for(tmp_path, monkeypatch):
    def states(**programs):
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        return {check.name: (check.state, check.found) for check in doctor.programs()}

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert states() == {
        "LaTeX": ("warning", "latexmk, IEEEtran.cls missing"), "Chromium": ("warning", "missing"),
        "SLURM": ("ok", "not on this machine; only jobs for a cluster need it"),
    }  # fmt: skip
    assert states(latexmk="", kpsewhich="", sbatch="")["LaTeX"] == ("warning", "IEEEtran.cls missing")
    found = states(kpsewhich="echo /texmf/IEEEtran.cls", chromium="")
    assert [state for state, _ in found.values()] == ["ok"] * 3
    assert found["SLURM"][1] == f"{tmp_path}/sbatch"
