"""What a run, a study or a training keeps is whole: the old files or the new ones, also when it is killed."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.__main__ import main
from bundle.run import command as run
from bundle.run import one
from helpers import data, files

ROOT = Path(__file__).resolve().parent.parent


def fill(folder, text, names=("a.txt", "deep/b.txt", "c.txt")):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def contents(folder):
    """All files under a folder, those of processes at work apart."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def replace_all(root, stop):
    """Replace three files together, and end without a word at the `stop`-th rename."""
    done, real = [], os.replace

    def rename(*given):
        if len(done) == stop:
            os._exit(9)
        done.append(given)
        real(*given)

    os.replace = rename
    with files.together(root) as staged:
        fill(staged, "new")


@pytest.mark.parametrize("stop", range(5))
def test_a_kill_between_any_two_renames_leaves_all_old_or_all_new_files(tmp_path, stop):
    fill(tmp_path, "old")
    worker = multiprocessing.get_context("fork").Process(target=replace_all, args=(tmp_path, stop))
    worker.start()
    worker.join()
    assert worker.exitcode == (9 if stop < 4 else 0)
    files.finish(tmp_path)
    files.remove_leftovers(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(("a.txt", "deep/b.txt", "c.txt"), b"new" if stop else b"old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "c.txt", "deep"]


def test_what_fails_while_it_is_written_leaves_the_old_files(tmp_path):
    fill(tmp_path, "old")

    def fail():
        with files.together(tmp_path) as staged:
            fill(staged, "new")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert contents(tmp_path) == dict.fromkeys(("a.txt", "deep/b.txt", "c.txt"), b"old")


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f".pack.{files.HOST}-{dead.pid}-01234567": False,
        f".weights.{files.HOST}-{dead.pid}-89abcdef.pt": False,
        f".pack.{files.HOST}-{os.getpid()}-01234567": True,
        f".pack.elsewhere-{dead.pid}-01234567": True,
        f".notes-{dead.pid}": True,
        "table.csv": True,
    }
    for name in names:
        (tmp_path / name).mkdir() if name == f".pack.{files.HOST}-{dead.pid}-01234567" else (tmp_path / name).touch()
    with files.replacing(tmp_path / "table.csv") as temporary:
        temporary.write_text("new")
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_new_folders_and_files_have_the_rights_that_the_user_gives(tmp_path):
    before = os.umask(0o002)
    try:
        with files.together(tmp_path / "kept") as staged:
            fill(staged, "new")
        with files.replacing(tmp_path / "pack") as fresh:
            fresh.mkdir()
    finally:
        os.umask(before)
    for path in (tmp_path / "kept", tmp_path / "kept/deep", tmp_path / "pack"):
        assert path.stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "kept/a.txt").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("speech", "speech"), ("NSynth-Test", "nsynth-test"), ("demo", "demo-"), ("Demo", "demo-"),
        ("a-b", "a-b"), ("a b", "a-b-"), ("語音", ""), ("", ""),
    ],
)  # fmt: skip
def test_no_folder_passes_for_the_demo_or_for_another(tmp_path, folder, name):
    found = data.name_of(str(tmp_path / "x" / folder)) if folder else data.name_of("demo")
    if not folder:
        assert found == "demo"
        return
    assert found.startswith(name)
    assert found != "demo"
    others = {
        data.name_of(str(tmp_path / other)) for other in ("demo", "Demo", "a-b", "a b", "a_b", "語音", "语音", "é")
    }
    assert len(others) == 8


def results(task="nsynth", digest="ab"):
    found = json.loads((ROOT / f"report/results/{task}-demo/05_evaluation.json").read_text())
    return found | {"data_digest": digest}


@pytest.fixture
def copy(tmp_path):
    """A bundle with code, results and README, and a finished run beside it."""
    bundle = tmp_path / "bundle"
    for part in ("demo", "helpers", "bundle", "report/results", "weights/nsynth-demo"):
        shutil.copytree(ROOT / part, bundle / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", bundle)
    made = tmp_path / "run" / "nsynth"
    (made / "results").mkdir(parents=True)
    for suffix in ("json", "npz"):
        shutil.copy(ROOT / f"report/results/nsynth-demo/05_evaluation.{suffix}", made / "results")
    found = json.loads((made / "results/05_evaluation.json").read_text())
    found["metrics"]["mel_cnn_top1"]["value"] = 0.123
    (made / "results/05_evaluation.json").write_text(json.dumps(found))
    for kind, name in (("weights", "mel_cnn.pt"), ("weights", "mel_cnn.json"), ("figures", "05_models.png")):
        (made / kind / "nsynth-demo").mkdir(parents=True, exist_ok=True)
        (made / kind / "nsynth-demo" / name).write_text("new")
    return bundle


KEEP = """
import sys
from pathlib import Path
from bundle.run.keep import keep
print("go", flush=True)
keep(Path(sys.argv[1]))
"""
FINISH = """
from pathlib import Path
from helpers.files import finish, remove_leftovers
finish(Path("."))
remove_leftovers(Path("."))
"""


def python(bundle, *command):
    return subprocess.run([sys.executable, "-c", *command], cwd=bundle, capture_output=True, text=True, check=True)


def test_a_run_is_kept_with_its_table(copy, tmp_path):
    python(copy, KEEP, str(tmp_path / "run"))
    assert (
        "rendered demo: top-1 | 0.675 (0.614–0.732) | 0.453 (0.387–0.522) | 0.123 (" in (copy / "README.md").read_text()
    )
    assert (copy / "weights/nsynth-demo/mel_cnn.pt").read_text() == "new"
    assert (copy / "weights/nsynth-demo/svm.npz").is_file()
    assert (copy / "figures/nsynth-demo/05_models.png").read_text() == "new"
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]


def test_results_of_other_data_are_not_replaced(copy, tmp_path):
    path = tmp_path / "run/nsynth/results/05_evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_digest": "f" * 64}))
    before = contents(copy / "report")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        python(copy, KEEP, str(tmp_path / "run"))
    assert "report/results/nsynth-demo/05_evaluation.json: holds results of other data (digest" in caught.value.stderr
    assert contents(copy / "report") == before
    assert (copy / "weights/nsynth-demo/mel_cnn.pt").read_bytes() != b"new"


def killed(command, cwd, moment):
    """Run a command and kill all its processes so many seconds after it says "go"."""
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, cwd=cwd, **pipe) as process:
        assert process.stdout.readline() == b"go\n"
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("tries", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_while_it_is_kept_leaves_all_of_one_run(copy, tmp_path, tries):
    old = contents(copy)
    python(copy, KEEP, str(tmp_path / "run"))
    new = contents(copy)
    started = time.perf_counter()
    python(copy, KEEP, str(tmp_path / "run"))
    whole, draw = time.perf_counter() - started, np.random.default_rng(tries)
    for _ in range(tries):
        for name in new.keys() - old.keys():
            (copy / name).unlink(missing_ok=True)
        for name, content in old.items():
            (copy / name).write_bytes(content)
        killed([sys.executable, "-c", KEEP, str(tmp_path / "run")], copy, draw.uniform(0, whole))
        python(copy, FINISH)
        assert contents(copy) in (old, new)


VERB = """
import sys
print("go", flush=True)
from bundle.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_study_that_is_killed_is_kept_whole_or_not_at_all(copy, toy, tmp_path):
    grid = ["mel_cnn", "--grid", "epochs=1", "--task", "languages", "--data", str(toy / "languages"), "--seeds", "1"]
    command = [sys.executable, "-c", VERB, "sweep", *grid, "--out", str(tmp_path / "cells"), "--keep"]
    old = contents(copy / "report")
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    new, draw, held = contents(copy / "report"), np.random.default_rng(0), []
    assert set(new) - set(old) == {f"results/languages-languages/study_mel_cnn.{end}" for end in ("json", "npz")}
    started = time.perf_counter()
    subprocess.run(command, cwd=copy, check=True, capture_output=True)  # the training is finished
    whole = time.perf_counter() - started
    for _ in range(10):
        shutil.rmtree(copy / "report/results/languages-languages", ignore_errors=True)
        for name, content in old.items():
            (copy / "report" / name).write_bytes(content)
        killed(command, copy, draw.uniform(0.5 * whole, 1.1 * whole))
        python(copy, FINISH)
        found = contents(copy / "report")
        assert found in (old, new)
        held.append(found == new)
    assert len(set(held)) == 2  # some before, some after


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("latexmk"), reason="LaTeX is not installed")
def test_a_report_that_is_killed_leaves_the_old_one_or_a_new_one(tmp_path):
    pdf, draw = tmp_path / "onepage/onepage.pdf", np.random.default_rng(0)
    pdf.parent.mkdir()
    for _ in range(10):
        pdf.write_bytes(b"old")
        killed([sys.executable, "-c", VERB, "report", "onepage", "--out", str(tmp_path)], ROOT, draw.uniform(0, 14))
        content = pdf.read_bytes()
        assert content == b"old" or (content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF"))


def test_runs_of_the_same_moment_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    assert [run.new_folder().name for _ in range(3)] == ["now", "now_2", "now_3"]


def test_a_bundle_that_cannot_be_written_asks_for_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "ROOT", tmp_path / "file")
    (tmp_path / "file").touch()
    monkeypatch.setattr(run, "finish", lambda _: None)
    assert main(["run", "--task", "nsynth", "--notebook", "01"]) == 2
    assert "Choose a folder that can be written with --out." in capsys.readouterr().err


def test_where_no_link_can_be_made_a_note_says_so(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    run.point_to(tmp_path / "now")
    assert (
        "note: runs/latest cannot be a link here (Operation not permitted); this run is now" in capsys.readouterr().out
    )
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_is_the_python_of_the_command_and_widgets_without_state_do_no_harm(tmp_path, monkeypatch):
    broken = tmp_path / "jupyter/kernels/python3"
    broken.mkdir(parents=True)
    (broken / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    cell = {"cell_type": "code", "id": "a", "execution_count": None, "outputs": []}
    cells = [cell | {"metadata": {"tags": ["parameters"]}, "source": "import sys\nprint(sys.executable)"}]
    widgets = {"application/vnd.jupyter.widget-state+json": {"version_major": 2}}
    source = {"cells": cells, "metadata": {"widgets": widgets}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(source))
    monkeypatch.setattr(sys, "argv", ["one", str(tmp_path / "a.ipynb"), str(tmp_path / "b.ipynb"), "{}"])
    one.main()
    assert sys.executable in (tmp_path / "b.html").read_text()
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "jupyter")


def test_an_error_is_told_by_the_cell_as_the_student_counts_it(tmp_path):
    error = {"output_type": "error", "ename": "ValueError", "evalue": "x\x1b[0m Á", "traceback": []}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "words"]},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "outputs": [], "source": []},
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "outputs": [], "source": []},
        {"cell_type": "markdown", "metadata": {}, "source": "## Scores\n"},
        {"cell_type": "code", "metadata": {}, "outputs": [error], "source": []},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    done = subprocess.CompletedProcess([], 1, "", "")
    assert run.explain(tmp_path / "a.ipynb", done) == "code cell 2 (Scores): ValueError: x Á"


def test_earlier_results_stay_until_there_are_new_ones(tmp_path, monkeypatch):
    path = tmp_path / "results/05_evaluation.json"
    path.parent.mkdir()
    path.write_text(json.dumps(results()))
    job = run.Job("05_evaluation", {}, tmp_path)

    def execute(*_, **__):
        if writes:
            os.replace(shutil.copy(path, tmp_path / "new"), path)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(run.subprocess, "run", execute)
    writes = False
    assert run.run_one(job, 1, 1).error == "wrote no 05_evaluation.json"
    assert path.is_file()
    writes = True
    assert run.run_one(job, 1, 1).results["notebook"] == "05_evaluation"
