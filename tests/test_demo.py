"""The rendered demo data: known bytes, published layouts, groups apart, nothing half-written."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import demo
from demo import notes, pieces
from helpers import data
from helpers.tasks import TAGS, TASKS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("task", TASKS)
def test_the_default_set_has_the_known_digest(task):
    folder = demo.ensure(task, ROOT / "data" / "demo")
    assert demo.digest_folder(folder) == demo.DIGESTS[task]


def test_pieces_are_tagged_with_the_tasks_own_tags():
    assert pieces.TAGS == TAGS  # written twice: the renderers import nothing of the rest


@pytest.mark.parametrize("task", TASKS)
def test_neither_the_number_of_processes_nor_a_second_time_changes_the_bytes(task, tmp_path, monkeypatch):
    renderer = importlib.import_module(f"demo.{demo.RENDERERS[task]}")
    whole = renderer.plan
    assert whole(0.01, 0) == whole(0.01, 0) != whole(0.01, 1)
    monkeypatch.setattr(renderer, "plan", lambda *given: whole(*given)[::12])
    digests = []
    for cores in (2, 1):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        folder = demo.ensure(task, tmp_path / str(cores), scale=0.01)
        assert len([path for path in folder.rglob("*") if path.suffix in (".wav", ".ogg", ".flac", ".mp3")]) >= 6
        digests.append(demo.digest_folder(folder))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("sounds", "played"),
    [({64}, [65, 64]), ({57, 40}, [*range(65, 56, -1)]), ({67}, [*range(65, 53, -1), 66, 53, 67])],
)
def test_a_silent_key_is_replaced_by_the_nearest_that_sounds(sounds, played, monkeypatch):
    tried = []
    monkeypatch.setattr(
        notes, "_play", lambda note, variant, key: tried.append(key) or np.full(4, 1.0 * (key in sounds))
    )
    notes._sounding(SimpleNamespace(pitch=60, program=3), SimpleNamespace(key_shift=5))
    assert tried == played


def test_a_sound_font_without_a_sounding_key_is_refused(monkeypatch):
    monkeypatch.setattr(notes, "_play", lambda note, variant, key: np.zeros(4))
    with pytest.raises(ValueError, match="Program 3 of the SoundFont: no key from 0 to 127 sounds"):
        notes._sounding(SimpleNamespace(pitch=60, program=3), SimpleNamespace(key_shift=5))


@pytest.mark.parametrize("task", TASKS)
def test_the_reader_finds_every_file_and_every_group_on_one_side(task, load_toy):
    loaded = load_toy(task)
    renderer = importlib.import_module(f"demo.{demo.RENDERERS[task]}")
    assert sum(map(len, loaded.splits.values())) == len(renderer.plan(0.1, 0))
    assert loaded.problems == []
    assert all(loaded.train.groups)
    assert not set(loaded.train.groups) & (set(loaded.valid.groups) | set(loaded.test.groups))


@pytest.mark.parametrize("task", TASKS)
def test_every_class_is_trained_and_all_but_synth_lead_are_tested(task):
    loaded = data.load(TASKS[task], "demo", ROOT)
    for name in ("train", "test"):
        targets = loaded.splits[name].targets
        counts = targets.sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(loaded.classes))
        missing = [label for label, count in zip(loaded.classes, counts, strict=True) if count == 0]
        assert missing == (["synth_lead"] if task == "nsynth" and name == "test" else [])


def test_what_is_rendered_already_is_not_rendered_again(toy, monkeypatch):
    monkeypatch.setattr(demo, "RENDERERS", {})  # another rendering would fail
    for task in TASKS:
        assert demo.ensure(task, toy, scale=0.1) == toy / task
        assert json.loads((toy / f"{task}.json").read_text())["sha256"] == demo.digest_folder(toy / task)


def test_nothing_half_written_stays_when_rendering_fails(tmp_path, monkeypatch):
    renderer = importlib.import_module("demo.notes")

    def fail(folder, *_):
        (folder / "nsynth-train").mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(renderer, "render", fail)
    with pytest.raises(OSError, match="No space left"):
        demo.ensure("nsynth", tmp_path, scale=0.01)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("task", "package"),
    [("nsynth", "tinysoundfont"), ("magnatagatune", "tinysoundfont"), ("languages", "espeakng_loader")],
)
def test_a_missing_renderer_is_named_with_its_mend(task, package, tmp_path):
    program = f"import sys; sys.modules[{package!r}] = None\n"
    program += f"import demo; from pathlib import Path; demo.ensure({task!r}, Path({str(tmp_path)!r}), 0.01)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "pip install --no-deps -r requirements-demo.txt" in done.stderr
    assert done.returncode == 1
