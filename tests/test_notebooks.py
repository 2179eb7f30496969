"""The five notebooks: their form, and every one executed for every task in both modes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest

from bundle.run.command import NOT_STARTED, NOTEBOOKS
from helpers import experiment, metrics
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("demo", "helpers", "notebooks", "weights", "bundle")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the bundle, so that runs share nothing with the checkout."""
    folder = tmp_path_factory.mktemp("bundle")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def execute(path: Path, parameters: dict, cwd: Path):
    """Execute a notebook, again when its kernel lost its port to another one that started at the same moment."""
    try:
        return papermill.execute_notebook(str(path), None, parameters, cwd=str(cwd), kernel_name="python3")
    except RuntimeError as error:
        if NOT_STARTED not in str(error):
            raise
        return papermill.execute_notebook(str(path), None, parameters, cwd=str(cwd), kernel_name="python3")


def run(bundle: Path, name: str, out: Path, cwd: Path, **parameters) -> dict:
    """Execute a notebook of `bundle` from the folder `cwd` and return its results file."""
    path = bundle / "notebooks" / f"{name}.ipynb"
    unknown = set(parameters) - set(papermill.inspect_notebook(str(path)))
    assert not unknown, f"unknown parameters: {unknown}"  # papermill itself only warns
    parameters |= {"OUT": str(out)}
    done = execute(path, parameters, cwd)
    last = [cell for cell in done.cells if cell.cell_type == "code"][-1]
    assert last.execution_count, "the notebook stopped before its last cell"
    return json.loads((out / "results" / f"{name}.json").read_text())


def check_results(results: dict, out: Path) -> None:
    """Every figure has its interval and n, and comes back from the saved predictions."""
    assert results["schema"] == 1
    assert str(out) not in json.dumps(results)  # results can be handed on without a path of this machine
    assert results["headline"] in results["metrics"]
    for score in results["metrics"].values():
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] > 0
    saved = out / "results" / f"{results['notebook']}.npz"
    if not saved.is_file():
        assert results["notebook"].startswith("01")
        return
    arrays = np.load(saved, allow_pickle=False)
    for model in set(arrays.files) - {"names", "groups", "targets"}:
        for name, value in metrics.point_scores(arrays[model], arrays["targets"]).items():
            claim = results["metrics"].get(f"{model}_{name}", results["metrics"].get(name))
            if claim and not (model.startswith("raw") and results["notebook"].startswith("04")):
                assert claim["value"] == pytest.approx(value, abs=1e-9)


def test_there_are_five_notebooks():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == list(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_the_agreed_form(name):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert sum("parameters" in cell.metadata.get("tags", ()) for cell in code) == 1
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert 15 <= len(notebook.cells) <= 40
    share = sum(cell.cell_type == "markdown" for cell in notebook.cells) / len(notebook.cells)
    assert 0.35 <= share <= 0.55
    for line in "\n".join(cell.source for cell in code).splitlines():
        assert not line.lstrip().startswith(("!", "%"))
        assert "sys.exit" not in line
    assert "finish(" in code[-1].source


def test_the_bootstrap_cell_is_the_same_everywhere():
    cells = {bootstrap(name) for name in NOTEBOOKS}
    assert len(cells) == 1


def bootstrap(name: str) -> str:
    """Source of a notebook's second code cell."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"][1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_saved_weights(copy, toy, tmp_path, name, task):
    results = run(copy, name, tmp_path, copy, TASK=task, DATA=str(toy / task))
    check_results(results, tmp_path)
    assert results["mode"] == "infer"
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_trains(copy, toy, tmp_path, name, task):
    small = {"EPOCHS": 2} if "cnn" in name or "evaluation" in name else {}
    small |= {"TRIALS": 2} if "svm" in name or "raw" in name else {}
    results = run(copy, name, tmp_path, copy / "notebooks", TASK=task, DATA=str(toy / task), MODE="train", **small)
    check_results(results, tmp_path)
    if name.startswith("01"):
        return
    saved = json.loads(next((tmp_path / "weights").glob("*/*.json")).read_text())
    assert saved["data_digest"] == results["data_digest"]
    for model, digest in results["weights_digest"].items():
        described = tmp_path / "weights" / f"{task}-{task}" / f"{model}.json"
        if described.is_file():
            assert json.loads(described.read_text())["sha256"] == digest


def test_another_length_and_stride_are_trained_and_the_binary_model_too(copy, toy, tmp_path):
    results = run(
        copy, "03_raw_audio_cnn", tmp_path, copy, TASK="languages", DATA=str(toy / "languages"), MODE="train",
        LENGTH=512, STRIDE=256, EPOCHS=1, CLASSES="es,en",
    )  # fmt: skip
    assert results["classes"] == ["es", "en"]
    assert (tmp_path / "weights/languages-languages/raw_cnn_512_256_es-en.pt").is_file()


def test_an_unknown_mode_stops_the_notebook(copy, toy, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="MODE: found 'test', expected 'infer'"):
        run(copy, "01_data_exploration", tmp_path, copy, DATA=str(toy / "nsynth"), MODE="test")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"TASK": "birds"}, "TASK: found 'birds', expected one of nsynth"),
        ({"MODE": "test"}, "MODE: found 'test', expected 'infer'"),
        ({"TRIALS": -1}, "TRIALS: found -1, expected at least 0"),
        ({"SEED": -1}, "SEED: found -1, expected at least 0"),
        ({"CLASSES": "bass,drum"}, "CLASSES: found 'bass,drum', expected two or more"),
    ],
)
def test_a_senseless_parameter_is_refused(copy, toy, wrong, words):
    sensible = {"TASK": "nsynth", "DATA": str(toy / "nsynth"), "MODE": "infer", "SEED": 0, "CLASSES": "", "OUT": ""}
    with pytest.raises(ValueError, match=words):
        experiment.start("02_baseline_svm", copy, sensible | wrong)


def test_missing_weights_stop_the_notebook(copy, toy, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="no weights 'raw_cnn_300_100'"):
        run(copy, "03_raw_audio_cnn", tmp_path, copy, DATA=str(toy / "magnatagatune"), LENGTH=300, STRIDE=100)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["01_data_exploration", "02_baseline_svm", "05_evaluation"])
def test_notebooks_run_on_real_notes(copy, real, tmp_path, name):
    results = run(copy, name, tmp_path, copy, TASK="nsynth", DATA=str(real / "nsynth"))
    check_results(results, tmp_path)
    assert sum(results["clips"].values()) == 125
    assert results["unreadable"]["count"] == 0


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_on_real_speech(real, tmp_path, name):
    results = run(ROOT, name, tmp_path, ROOT, TASK="languages", DATA=str(real / "languages"))
    check_results(results, tmp_path)
    assert sum(results["clips"].values()) == 5349
    assert results["clips"]["test"] == 2713


def test_the_bootstrap_fetches_the_release_in_an_empty_colab_runtime(copy, tmp_path):
    release, empty = tmp_path / "release", tmp_path / "content"
    shutil.copytree(copy / "helpers", release / "helpers")
    (release / "bundle").mkdir()
    (release / "bundle/install.py").write_text("import pathlib; pathlib.Path('installed').touch()\n")
    empty.mkdir()
    git = ["git", "-C", str(release), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "Release"], ["tag", "v1.0"]):
        subprocess.run([*git, *arguments], check=True)
    program = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    program += bootstrap("01_data_exploration") + "\nimport helpers; print(helpers.__file__)"
    environment = os.environ | {"BUNDLE_REPOSITORY": release.as_uri(), "BUNDLE": str(empty)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=empty, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(empty / "bundle/helpers/__init__.py")
    assert (empty / "installed").is_file()


def test_the_bootstrap_says_when_there_is_no_bundle(tmp_path):
    environment = os.environ | {"BUNDLE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", bootstrap("01_data_exploration")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "run inside the bundle, or set BUNDLE" in done.stderr
