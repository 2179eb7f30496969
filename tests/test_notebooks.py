"""The five notebooks: their form, and every one executed for every task in both modes, by a kernel or without one."""

import contextlib
import json
import math
import re
import shutil
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import pytest

from bundle.results import RESULTS, load
from bundle.run.command import NOTEBOOKS
from bundle.run.one import NOT_STARTED, execute
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


def run(bundle: Path, name: str, out: Path, cwd: Path, **parameters) -> dict:
    """Execute a notebook of `bundle` in a kernel, from the folder `cwd`, and return its results file."""
    path = bundle / "notebooks" / f"{name}.ipynb"
    unknown = set(parameters) - set(papermill.inspect_notebook(path))
    assert not unknown, f"unknown parameters: {unknown}"  # papermill itself only warns
    done = execute(path, None, parameters | {"OUT": str(out)}, cwd)
    last = [cell for cell in done.cells if cell.cell_type == "code"][-1]
    assert last.execution_count, "the notebook stopped before its last cell"
    return json.loads((out / "results" / f"{name}.json").read_text())


def run_here(name: str, out: Path, **parameters) -> dict:
    """Execute a notebook's code in this process, which needs no second start of Python; returns its results file."""
    space = {}
    with contextlib.chdir(ROOT), matplotlib.rc_context({"backend": "agg"}):
        for cell in code_of(name):
            exec(compile(cell.source, f"{name}, cell {cell.id}", "exec"), space)
            if "parameters" in cell.metadata.get("tags", ()):
                assert parameters.keys() <= space.keys()
                space |= parameters | {"OUT": str(out)}
        plt.close("all")
    return json.loads((out / "results" / f"{name}.json").read_text())


def code_of(name: str) -> list:
    """The code cells of a notebook."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


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
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert 15 <= len(notebook.cells) <= 40
    share = sum(cell.cell_type == "markdown" for cell in notebook.cells) / len(notebook.cells)
    assert 0.35 <= share <= 0.55
    for line in "\n".join(cell.source for cell in code).splitlines():
        assert not line.lstrip().startswith(("!", "%"))
        assert "sys.exit" not in line
        assert "globals()" not in line
    assert "finish(" in code[-1].source


def test_the_notebooks_are_kept_with_the_outputs_of_their_default_run():
    size = 0
    for name in NOTEBOOKS:
        path = ROOT / "notebooks" / f"{name}.ipynb"
        size += path.stat().st_size
        code = code_of(name)
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        text = path.read_text(encoding="utf-8")
        assert sum(output.get("data", {}).get("image/png") is not None for cell in code for output in cell.outputs) >= 3
        assert not re.search(r"<audio |widget-view|\"widgets\"|papermill\"|/(?:home|work|tmp|root)/", text)
        assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert size < 4 * 2**20


@pytest.mark.parametrize("name", NOTEBOOKS[1:])
def test_the_kept_outputs_are_those_of_the_committed_results(name):
    printed = "".join(output.get("text", "") for cell in code_of(name) for output in cell.outputs)
    kept = load(RESULTS / "nsynth-demo" / f"{name}.json")
    assert kept["parameters"]["TASK"] == "nsynth"
    scores = {key: score for key, score in kept["metrics"].items() if key.endswith(("top1", "top3"))}
    assert len(scores) >= 2
    for score in scores.values():
        assert metrics.in_words(score) in printed
    for digest in kept["weights_digest"].values():
        assert f"digest {digest[:12]}" in printed


def check_loaded(results: dict, out: Path) -> None:
    """The run loaded weights and trained nothing."""
    check_results(results, out)
    assert results["mode"] == "infer"
    assert not (out / "weights").exists()


def check_trained(results: dict, out: Path) -> None:
    """The weights that a run has saved are those it was scored with."""
    check_results(results, out)
    if results["notebook"].startswith("01"):
        return
    described = {path.stem: json.loads(path.read_text()) for path in (out / "weights").glob("*/*.json")}
    assert described
    for name, info in described.items():
        assert info["data_digest"] == results["data_digest"]
        base = name.removesuffix("_" + "-".join(results["classes"]))
        assert info["sha256"] == results["weights_digest"][base]


def short(name: str, task: str) -> dict:
    """Parameters of a training that is over soon; one is of two classes, with another first layer."""
    found = {"MODE": "train"}
    if not name.startswith(("01", "02")):
        found["EPOCHS"] = 2
    if name.startswith(("02", "03")):
        found["TRIALS"] = 2
    if (name[:2], task) == ("03", "languages"):
        found |= {"LENGTH": 512, "STRIDE": 256, "CLASSES": "es,en"}
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_trains_in_a_kernel_in_its_own_folder(copy, toy, tmp_path, name):
    task = "magnatagatune"
    given = {"TASK": task, "DATA": str(toy / task)} | short(name, task)
    check_trained(run(copy, name, tmp_path, copy / "notebooks", **given), tmp_path)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_saved_weights(toy, tmp_path, name, task):
    check_loaded(run_here(name, tmp_path, TASK=task, DATA=str(toy / task)), tmp_path)


@pytest.mark.parametrize("task", ["nsynth", "languages"])
@pytest.mark.parametrize("name", NOTEBOOKS[1:])
def test_a_notebook_trains(toy, tmp_path, name, task):
    results = run_here(name, tmp_path, TASK=task, DATA=str(toy / task), **short(name, task))
    check_trained(results, tmp_path)
    if (name[:2], task) == ("03", "languages"):
        assert results["classes"] == ["es", "en"]
        assert (tmp_path / "weights/languages-languages/raw_cnn_512_256_es-en.pt").is_file()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"TASK": "birds"}, "TASK: found 'birds', expected one of nsynth"),
        ({"MODE": "test"}, "MODE: found 'test', expected 'infer'"),
        ({"TRIALS": -1}, "TRIALS: found -1, expected a whole number from 0 to 100,000"),
        ({"SEED": 5_000_000_000}, "SEED: found 5000000000, expected a whole number from 0 to 4,294,967,295"),
        ({"SEED": True}, "SEED: found True, expected a whole number"),
        ({"EPOCHS": math.nan}, "EPOCHS: found nan, expected a whole number from 1"),
        ({"EPOCHS": "20"}, "EPOCHS: found '20', expected a whole number"),
        ({"LOG": 1}, "LOG: found 1, expected True or False"),
        ({"DATA": 5}, "DATA: found 5, expected a text"),
        ({"CLASSES": "bass,drum"}, "CLASSES: found 'bass,drum', expected two or more"),
    ],
)
def test_a_senseless_parameter_is_refused(copy, toy, wrong, words):
    sensible = {"TASK": "nsynth", "DATA": str(toy / "nsynth"), "MODE": "infer", "SEED": 0, "CLASSES": "", "OUT": ""}
    with pytest.raises(ValueError, match=words):
        experiment.start("02_baseline_svm", copy, sensible | wrong)


def test_missing_weights_stop_the_notebook(copy, toy, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="no weights 'raw_cnn_300_100'"):
        run(copy, "03_raw_audio_cnn", tmp_path, copy, DATA=str(toy / "nsynth"), LENGTH=300, STRIDE=100)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "task", "clips"),
    [
        ("01_data_exploration", "nsynth", 125),
        ("05_evaluation", "nsynth", 125),
        *((name, "languages", 5349) for name in NOTEBOOKS),
    ],
)
def test_notebooks_run_on_real_recordings(real, tmp_path, name, task, clips):
    results = run_here(name, tmp_path, TASK=task, DATA=str(real / task))
    check_loaded(results, tmp_path)
    assert sum(results["clips"].values()) == clips
    if task == "nsynth":
        assert results["unreadable"]["count"] == 0
    else:
        assert results["clips"]["test"] == 2713


def test_a_kernel_that_could_not_start_is_started_again(tmp_path, monkeypatch):
    tried = []

    def fails(*_, **__):
        tried.append(1)
        if len(tried) % 3:
            raise RuntimeError(NOT_STARTED)
        return "executed"

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    assert execute(tmp_path / "x.ipynb", None, {}) == "executed"
    with pytest.raises(RuntimeError, match=NOT_STARTED):
        execute(tmp_path / "x.ipynb", None, {}, starts=2)
    assert len(tried) == 5
