"""Weights come back unchanged or not at all: nothing altered, foreign or executable is loaded, nothing half-written."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import features, models, weights
from helpers.tasks import TASKS

TASK = TASKS["languages"]
MEND = r"Get the file again \(git checkout, or the release\), or train with MODE='train'"
INFO = {"task": TASK.name, "classes": TASK.classes, "data": "demo", "seed": 7}


def network(kind="MelCNN", seed=1, task=TASK):
    config = models.config_for(task, kind, len(task.classes)) | ({"width": 4} if kind == "MelCNN" else {})
    return models.build(config, seed), config


def save(folder, name="mel_cnn", kind="MelCNN", task=TASK, seed=1):
    model, config = network(kind, seed, task)
    weights.save(folder, name, model, INFO | {"config": config, "task": task.name, "classes": task.classes})
    return model.eval()


def svm(points=7):
    """A small machine on the task's features."""
    draw = np.random.default_rng(0)
    width = features.pooled(np.zeros((1, TASK.window_samples), np.float32), TASK).shape[1]
    shapes = (width, width, (points, width), (points, len(TASK.classes)), len(TASK.classes), ())
    return models.KernelMachine(*(np.asarray(draw.uniform(0.5, 1, shape), np.float32) for shape in shapes))


def forge(folder, name="mel_cnn", **change):
    """Change a description and make its digest fit the weights file again."""
    path = folder / f"{name}.json"
    info = json.loads(path.read_text()) | change
    info["sha256"] = hashlib.sha256((folder / info["file"]).read_bytes()).hexdigest()
    path.write_text(json.dumps(info))


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@torch.no_grad()
def test_a_network_comes_back_with_equal_logits(kind, task, tmp_path):
    model = save(tmp_path / "new" / "folder", "net", kind, task)
    found, info = weights.load(tmp_path / "new" / "folder", "net", task, task.classes)
    wave = 0.1 * torch.randn(2, task.window_samples, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(wave), model(wave))
    assert not found.training
    assert (info["seed"], tuple(info["classes"])) == (7, task.classes)
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {"net.pt", "net.json", "net.md"}
    content = (tmp_path / "new" / "folder" / "net.pt").read_bytes()
    assert (info["sha256"], info["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))


def test_an_svm_comes_back_with_equal_arrays(tmp_path):
    weights.save(tmp_path, "svm", svm(), INFO)
    found, info = weights.load(tmp_path, "svm", TASK)
    assert info["file"] == "svm.npz"
    for name, array in svm().arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": np.ones(4, np.float32)}, "arrays of the shapes"),
        ({"weights": np.ones((6, 6), np.float32)}, "arrays of the shapes"),
        ({"bias": np.full(6, np.nan, np.float32)}, "not float32 or not finite"),
        ({"gamma": np.array(1.0)}, "not float32 or not finite"),
        ({"points": np.array([print] * 7)}, "Object arrays cannot be loaded"),
        ({"more": np.ones(2)}, "unexpected keyword"),
        ({"mean": None}, "missing 1 required"),
        (
            {name: svm().arrays[name][..., :4] for name in ("mean", "scale", "points")},
            r"\(features, classes\) \(4, 6\)",
        ),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(change, words, tmp_path):
    weights.save(tmp_path, "svm", svm(), INFO)
    arrays = {name: array for name, array in (svm().arrays | change).items() if array is not None}
    with (tmp_path / "svm.npz").open("wb") as file:
        np.savez(file, **arrays)
    forge(tmp_path, "svm")
    with pytest.raises(ValueError, match=rf"svm.npz: refused .*{words}.* expected what svm.json describes"):
        weights.load(tmp_path, "svm", TASK)


@pytest.mark.parametrize("place", [0, 1000, -1])
@pytest.mark.parametrize("suffix", ["pt", "npz"])
def test_one_changed_byte_is_refused(place, suffix, tmp_path):
    save(tmp_path, "model") if suffix == "pt" else weights.save(tmp_path, "model", svm(), INFO)
    path = tmp_path / f"model.{suffix}"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model.{suffix}: digest [0-9a-f]+…, expected [0-9a-f]+…\. {MEND}"):
        weights.load(tmp_path, "model", TASK)


def test_missing_files_are_named(tmp_path):
    save(tmp_path)
    (tmp_path / "mel_cnn.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"mel_cnn\.pt"):
        weights.load(tmp_path, "mel_cnn", TASK)
    with pytest.raises(FileNotFoundError, match=rf"raw_cnn.json: no such weights \(there: mel_cnn\)\. {MEND}"):
        weights.load(tmp_path, "raw_cnn", TASK)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"file": "mel_cnn.pt"}', "\xff{", "sha256", "task", "classes"])
def test_a_description_that_is_none_or_lacks_an_entry_is_refused(text, tmp_path):
    save(tmp_path)
    if text.isidentifier():
        text = json.dumps(json.loads((tmp_path / "mel_cnn.json").read_text()) | {text: 5})
    (tmp_path / "mel_cnn.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"mel_cnn.json: not a description of weights .* {MEND}"):
        weights.load(tmp_path, "mel_cnn", TASK)


@pytest.mark.parametrize("file", ["../mel_cnn.pt", "/mel_cnn.pt", "sub/mel_cnn.pt", "..", "", "mel_cnn.pkl"])
def test_a_description_that_names_a_file_outside_or_of_another_kind_is_refused(file, tmp_path):
    for copy in (tmp_path, tmp_path / "inside", tmp_path / "inside/sub"):
        save(copy)
    info = weights.read_info(tmp_path, "mel_cnn") | {"file": file}
    (tmp_path / "inside/mel_cnn.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"mel_cnn.json: not a description of weights \(names the file "):
        weights.load(tmp_path / "inside", "mel_cnn", TASK)


def test_weights_of_another_task_or_for_other_classes_or_in_another_order_are_refused(tmp_path):
    save(tmp_path)
    with pytest.raises(ValueError, match=r"weights of task 'languages', expected 'nsynth'\. Choose the other TASK"):
        weights.load(tmp_path, "mel_cnn", TASKS["nsynth"])
    for classes in (("en", "es"), TASK.classes[::-1], (*TASK.classes, "it")):
        words = rf"weights for the classes de, en, .*; expected {', '.join(classes)}, in this"
        with pytest.raises(ValueError, match=words):
            weights.load(tmp_path, "mel_cnn", TASK, classes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": [*TASK.classes, "it"]}, "7 classes for a network of 6"),
        ({"config": network("RawCNN")[1]}, "state_dict for RawCNN"),
    ],
)
def test_a_description_that_does_not_fit_its_weights_is_refused(change, words, tmp_path):
    save(tmp_path)
    forge(tmp_path, **change)
    with pytest.raises(ValueError, match=rf"mel_cnn.pt: refused .*{words}.* {MEND}"):
        weights.load(tmp_path, "mel_cnn", TASK)


@pytest.mark.parametrize(
    ("change", "words"), [({"config": None}, "lacks config"), ({"classes": list(range(6))}, "classes that are no text")]
)
def test_a_description_that_lacks_what_it_must_say_is_refused_by_its_own_name(change, words, tmp_path):
    save(tmp_path)
    forge(tmp_path, **change)
    with pytest.raises(ValueError, match=rf"mel_cnn.json: not a description of weights \(.*{words}.* {MEND}"):
        weights.load(tmp_path, "mel_cnn", TASK)


def test_a_missing_weights_file_beside_its_description_says_what_to_do(tmp_path):
    save(tmp_path)
    (tmp_path / "mel_cnn.pt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"mel_cnn.pt: the weights are missing.* {MEND}"):
        weights.load(tmp_path, "mel_cnn", TASK)


class Code:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", ["pt", "npz"])
def test_code_in_a_weights_file_is_refused_and_does_not_run(zipped, suffix, tmp_path):
    save(tmp_path)
    path = tmp_path / f"mel_cnn.{suffix}"
    torch.save({"weight": Code(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    (tmp_path / "ran").rmdir()  # so a careless loader does run it
    forge(tmp_path, file=path.name)
    with pytest.raises(ValueError, match=rf"mel_cnn.{suffix}: refused "):
        weights.load(tmp_path, "mel_cnn", TASK)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\5\6" + bytes(18)], ids=["", "text", "empty zip"])
def test_a_file_that_is_no_weights_is_refused(content, tmp_path):
    for suffix in ("pt", "npz"):
        save(tmp_path)
        (tmp_path / f"mel_cnn.{suffix}").write_bytes(content)
        forge(tmp_path, file=f"mel_cnn.{suffix}")
        with pytest.raises(ValueError, match=rf"mel_cnn.{suffix}: refused .*{MEND}"):
            weights.load(tmp_path, "mel_cnn", TASK)


@pytest.mark.parametrize(
    ("module", "name", "after"),
    [(torch, "save", 0), (weights, "card", 0), (Path, "write_text", 0), (Path, "write_text", 1), (os, "replace", 0)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_nothing_half_written_stays_when_saving_fails(module, name, after, tmp_path, monkeypatch):
    save(tmp_path, "old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    function, calls = getattr(module, name), []

    def full(*given, **options):
        """The function on a disk that is full after some calls."""
        calls.append(given)
        if len(calls) % (after + 1) == 0:
            raise OSError("no space left on device")
        return function(*given, **options)

    for model in ("old", "new"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(OSError, match="no space left"):
                save(tmp_path, model, seed=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_committed_cards_say_what_their_descriptions_say():
    paths = sorted((Path(__file__).parent.parent / "weights").glob("*/*.json"))
    assert len(paths) >= 19
    for path in paths:
        info = weights.read_info(path.parent, path.stem)
        assert weights.card(path.stem, info) == path.with_suffix(".md").read_text()
    assert "rendered, not recorded" not in weights.card("x", info | {"data": "own"})


def test_find_prefers_weights_trained_on_the_data_then_the_first_root(tmp_path):
    roots = [tmp_path / "out", tmp_path / "bundle"]
    with pytest.raises(FileNotFoundError, match=r"no weights 'mel_cnn' in .*languages-mine or .*languages-mine\. Get"):
        weights.find("mel_cnn", TASK, "mine", roots)
    for folder in ("bundle/languages-demo", "out/languages-demo", "bundle/languages-mine", "out/languages-mine"):
        save(tmp_path / folder)
        assert weights.find("mel_cnn", TASK, "mine", roots) == tmp_path / folder
    assert weights.find("mel_cnn", TASK, "other", roots) == tmp_path / "out/languages-demo"


def test_equal_weights_are_equal_files(tmp_path):
    for part in "ab":
        save(tmp_path / part)
    assert (tmp_path / "a/mel_cnn.pt").read_bytes() == (tmp_path / "b/mel_cnn.pt").read_bytes()
