"""`python -m bundle doctor`: data against what was published, the machine and its packages, exit codes."""

import shutil
import sys
import types
from collections import namedtuple

import pytest

from bundle import doctor
from bundle.__main__ import main
from bundle.published import EMPTY_MP3S
from helpers.tasks import TASKS


def by_name(checks):
    return {check.name: check for check in checks}


def found(task, folder):
    return {name: (check.state, check.found) for name, check in by_name(doctor.examine(TASKS[task], folder)).items()}


def test_notes_are_counted_and_what_cannot_be_used_is_listed(tmp_path):
    names = ["bass_acoustic_000-060-025", "flute_acoustic_001-060-025", "kazoo_acoustic_002-060-025",
             "brass_acoustic_046-084-025"]  # fmt: skip
    audio = tmp_path / "nsynth-test" / "audio"
    audio.mkdir(parents=True)
    for name in names:
        (audio / f"{name}.wav").write_bytes(b"" if name.startswith("flute") else b"sound")
    checks = by_name(doctor.examine(TASKS["nsynth"], tmp_path))
    assert (checks["nsynth-test"].state, checks["nsynth-test"].found) == ("warning", "3 clips of 4,096 published")
    assert checks["recordings"].state == "problem"
    assert checks["recordings"].clips == [
        (f"nsynth-test/{names[2]}", "label outside the classes or contradictory: kazoo"),
        (f"nsynth-test/{names[1]}", "empty file (0 bytes)"),
    ]
    assert checks["known"].clips == [(f"nsynth-test/{names[3]}", "noise (magenta/magenta issue 2092)")]
    assert found("nsynth", audio.parent)["nsynth-test"][1] == "3 clips of 4,096 published"  # a part given alone
    state, words = found("languages", tmp_path)["layout"]
    assert (state, "found nsynth-test/, expected inputs_train_fp16.npy" in words) == ("problem", True)


def test_the_empty_mp3s_are_known_and_another_one_is_not(tmp_path):
    names = [f"{name}.mp3" for name in (*EMPTY_MP3S, "1/x-y-01-z-0-29", "0/0-album-01-z-0-29")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"sound" if name == names[-1] else b"")
    table = [f"{number}\t{number % 2}\t1\t{name}" for number, name in enumerate(names)]
    (tmp_path / "annotations_final.csv").write_text("\n".join(["clip_id\tguitar\tpiano\tmp3_path", *table]))
    checks = by_name(doctor.examine(TASKS["magnatagatune"], tmp_path))
    assert checks["known"].clips == [(name, "published empty") for name in names[:3]]
    assert checks["recordings"].clips == [(names[3], "empty file (0 bytes)")]
    assert checks["train"].found == "5 clips of 18,709 published"


def test_a_group_in_two_splits_and_a_stand_in_for_a_split_are_told(tmp_path):
    for split, part in (("train", "de"), ("test", "de"), ("test", "en")):
        (tmp_path / "speech" / split / part).mkdir(parents=True)
        (tmp_path / "speech" / split / part / f"book__ann__{split}.wav").write_bytes(b"RIFF")
    groups = found("languages", tmp_path / "speech")["groups"]
    assert groups[0] == "problem"
    assert "1 groups lie both in 'train' and in 'test', expected none (first: book__ann)" in groups[1]
    (tmp_path / "notes/nsynth-valid/audio").mkdir(parents=True)
    (tmp_path / "notes/nsynth-valid/audio/bass_synthetic_000-048-127.wav").write_bytes(b"RIFF")
    assert found("nsynth", tmp_path / "notes")["note"] == (
        "warning", "No nsynth-test: the notes of nsynth-valid are the test split.",
    )  # fmt: skip


def test_real_recordings_are_found_as_they_are(real):
    notes = found("nsynth", real / "nsynth")
    assert notes["nsynth-train"] == ("warning", "111 clips of 289,205 published")
    assert notes["recordings"] == ("ok", "0 cannot be used")
    labels = found("magnatagatune", real / "magnatagatune" / "bristol")
    assert labels["val"] == ("ok", "4,392 clips of 4,392 published")
    assert labels["recordings"] == ("problem", "4,392 cannot be used")  # their samples are not there


def test_exit_codes_tell_problems_from_warnings(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "environment", lambda: [doctor.Check("warning", "x", "y", "do z")])
    left = doctor.Check("problem", "recordings", "1 cannot be used", "get it", [("a\n\x1b[2J", "empty")])
    monkeypatch.setattr(doctor, "examine", lambda *_: [left])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "warning  x: y\n         mend: do z\n0 problems, 1 warnings\n"
    assert main(["doctor", "--task", "nsynth", "--data", "folder"]) == 1
    assert "1 cannot be used\n         a\\n\\x1b[2J: empty\n         mend: get it\n" in capsys.readouterr().out
    assert main(["doctor", "--task", "nsynth"]) == 2
    assert "--task and --data belong together" in capsys.readouterr().err


def test_packages_are_compared_with_the_pins(tmp_path, monkeypatch):
    def version(name):
        if name == "pooch":
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return "2.13.0+cu130"

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    path = tmp_path / "requirements.txt"
    for text, expected in (
        ("torch==2.13.0 # a", ("ok", "all as pinned", "python bundle/install.py")),
        ("torch==2.12.0", ("warning", "torch 2.13.0 (pinned 2.12.0)", "python bundle/install.py")),
        (
            "pooch==1\ntorch==2",
            ("problem", "pooch missing (pinned 1), torch 2.13.0 (pinned 2)", "python bundle/install.py"),
        ),
    ):
        path.write_text(text)
        check = doctor.packages(path)
        assert (check.state, check.found, check.mend) == expected
    check = doctor.packages(path.rename(tmp_path / "requirements-test.txt"))
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
    assert doctor.torchaudio().found == "cannot be imported (no such thing)"


def test_a_gpu_is_named_and_a_driver_without_one_is_a_warning(monkeypatch):
    import torch

    card = types.SimpleNamespace(name="Card", total_memory=16e9)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert [check.found for check in doctor.gpus()] == [f"Card, 16 GB, CUDA {torch.version.cuda}"] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for driver, state in ((None, "ok"), ("/bin/nvidia-smi", "warning")):
        monkeypatch.setattr(shutil, "which", lambda _, driver=driver: driver)
        assert [check.state for check in doctor.gpus()] == [state]


@pytest.mark.parametrize("there", [True, False])
def test_programs_and_disk_are_named_with_what_they_are_for(there, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 5e11 if there else 5e9))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if there else None)
    monkeypatch.delenv("CHROMIUM", raising=False)
    checks = by_name(doctor.environment())
    assert {"python", "requirements.txt", "torchaudio", "cores", "GPU"} <= set(checks)
    assert {checks[name].state for name in ("disk", "LaTeX", "Chromium")} == {"ok" if there else "warning"}
    assert "apt install latexmk texlive" in checks["LaTeX"].mend
    assert checks["SLURM"].state == "ok"
