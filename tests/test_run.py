"""python -m bundle run: parameters, failures, exit codes, what is kept; and the installer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle import install, results
from bundle.__main__ import main
from bundle.run import command as run
from helpers import metrics
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent


def call(bundle: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command as a user would, from any folder."""
    environment = os.environ | {"PYTHONPATH": str(bundle)}
    command = [sys.executable, "-m", "bundle", "run", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    """A copy of the bundle."""
    for part in ("demo", "helpers", "notebooks", "weights", "bundle"):
        shutil.copytree(ROOT / part, tmp_path / "bundle" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_failing_notebook_does_not_stop_the_others(copy, toy, tmp_path):
    weights = copy / "weights/languages-demo/raw_cnn_256_256.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    given = ("--task", "languages", "--data", str(toy / "languages"))
    done = call(copy, tmp_path, *given, "--notebook", "01", "--notebook", "03")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = next(
        line for line in done.stdout.splitlines() if line.startswith("FAILED languages 03_raw_audio_cnn: code cell")
    )
    assert "raw_cnn_256_256.pt: digest" in failed
    latest = copy / "runs/latest/languages"
    assert json.loads((latest / "results/01_data_exploration.json").read_text())["task"] == "languages"
    assert not (latest / "results/03_raw_audio_cnn.json").exists()
    for name in ("01_data_exploration", "03_raw_audio_cnn"):  # the failed one has a page as well
        assert "<html" in (latest / f"{name}.html").read_text()
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith("languages  01"))
    assert row[2:4] == ["test_clips", "48"]  # counted, and so without an interval


def test_a_trained_run_can_be_kept(copy, toy, tmp_path):
    before = {path: path.read_bytes() for path in (copy / "weights").rglob("*.pt")}
    given = ("--task", "nsynth", "--data", str(toy / "nsynth"), "--mode", "train", "-p", "EPOCHS", "1")
    done = call(copy, tmp_path, *given, "--notebook", "05", "--keep", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"mel_cnn_top1 +0\.\d{3}  0\.\d{3}–[01]\.\d{3} ", done.stdout)  # a score has no sign
    assert (copy / "weights/nsynth-nsynth/mel_cnn.pt").is_file()
    assert (copy / "figures/nsynth-nsynth/05_models.png").is_file()
    assert {path: path.read_bytes() for path in before} == before
    kept = json.loads((copy / "report/results/nsynth-nsynth/05_evaluation.json").read_text())
    value = kept["metrics"]["mel_cnn_top1"]["value"]
    assert f"| nsynth | nsynth | mel_cnn | top-1 {value:.3f} (" in (copy / "report/results/README.md").read_text()
    assert "Instrument families (NSynth), nsynth: top-1" in (copy / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "EPOCH", "3"], "Unknown parameter EPOCH, expected one of"),
        (["-p", "EPOCHS", "many"], "EPOCHS: found 'many' (str), expected int"),
        (["--notebook", "07"], "No such notebook; there are 01_data_exploration"),
        (["--data", "somewhere"], "name it with --task"),
        (["-p", "MODE", "train"], "MODE and OUT are given with --task, --data, --mode and --out"),
        (["--mode", "guess"], "invalid choice: 'guess'"),
        (["--task", "birds"], "invalid choice: 'birds'"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_runs(tmp_path, capsys, arguments, words):
    try:
        code = main(["run", *arguments, "--out", str(tmp_path / "out")])
    except SystemExit as stop:  # of argparse
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_notebook_that_takes_too_long_is_ended(toy, tmp_path):
    job = run.Job("01_data_exploration", {"TASK": "nsynth", "DATA": str(toy / "nsynth")}, tmp_path)
    outcome = run.run_one(job, workers=1, minutes=0.01)
    assert outcome.results is None
    assert "took longer than 0.01 minutes" in outcome.error


WANTED = ["torch==2.13.0", "torchaudio==2.11.0", "numpy==2.4.6", "papermill==2.7.0"]


@pytest.mark.parametrize(
    ("installed", "missing_only", "expected"),
    [
        ({}, False, WANTED),
        ({}, True, WANTED),
        ({"torch": "2.8.0+cu126", "torchaudio": "2.8.0"}, False, WANTED[2:]),
        ({"torch": "2.13.0"}, False, WANTED[1:]),
        ({"torch": "2.5.1", "torchaudio": "2.5.1"}, False, WANTED),
        ({"torch": "2.8.0", "torchaudio": "2.8.0", "numpy": "2.0.2"}, True, WANTED[3:]),
        ({"torch": "2.5.1", "numpy": "2.0.2"}, True, [WANTED[0], WANTED[1], *WANTED[3:]]),
    ],
)
def test_what_is_installed_is_kept_where_that_is_safe(installed, missing_only, expected):
    assert install.to_install(WANTED, installed, missing_only) == expected


def test_the_readme_shows_the_committed_results():
    readme = (ROOT / "README.md").read_text()
    known = results.read()
    assert results.with_table(readme, results.readme_table(known)) == readme
    score = known.runs["nsynth-demo"]["05_evaluation"].headline("mel_cnn")
    assert (score.n, score.groups) == (600, 75)  # of notes, and of the instruments that the interval is drawn over
    assert (
        f"rendered demo: top-1 | 0.675 ({known.runs['nsynth-demo']['05_evaluation'].headline('svm').interval})"
        in readme
    )
    page = (ROOT / "report/results/README.md").read_text()
    assert results.studies_page(known) == page
    assert page.count("| rendered demo |") >= 15


def test_a_table_without_results_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results, expected"):
        results.readme_table(results.read(tmp_path))


def test_a_killed_run_is_completed_by_the_next(copy, toy, tmp_path):
    given = ["--task", "languages", "--data", str(toy / "languages"), "--notebook", "03", "--mode", "train"]
    given += ["-p", "EPOCHS", "20", "-p", "CLASSES", "en,es", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "bundle", "run", *given]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    log = tmp_path / "out/languages/logs/languages-languages/raw_cnn_256_256_en-es"
    while first.poll() is None and not (log / "checkpoint.pt").is_file():
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    results = tmp_path / "out/languages/results/03_raw_audio_cnn.json"
    assert not results.exists()
    time.sleep(3)  # the kernel ends when it notices that nobody is left
    done = call(copy, tmp_path, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())
    assert found["curves"]["epoch"] == list(range(1, 21))
    arrays = np.load(results.with_suffix(".npz"), allow_pickle=False)
    value = metrics.point_scores(arrays["raw_cnn_256_256"], arrays["targets"])["top1"]
    assert found["metrics"]["top1"]["value"] == pytest.approx(value)
    assert not list((tmp_path / "out").rglob("checkpoint*"))
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]


def test_the_whole_set_also_trains_the_binary_and_the_deeper_network(tmp_path):
    jobs, problems = run.plan(list(TASKS), list(run.NOTEBOOKS), {"MODE": "train", "DATA": "demo"}, tmp_path)
    assert problems == []
    assert len(jobs) == 17
    extras = {job.title: job.parameters for job in jobs[15:]}
    assert extras["languages-en-es 04_mel_cnn"]["CLASSES"] == "en,es"
    assert extras["magnatagatune-deep 03_raw_audio_cnn"]["NETWORK"] == "SampleCNN"
    given = {"MODE": "train", "DATA": "demo", "CLASSES": "de,nl"}
    assert not [job for job in run.plan(["languages"], ["04_mel_cnn"], given, tmp_path)[0] if "en-es" in job.title]
    assert len(run.plan(list(TASKS), list(run.NOTEBOOKS), {"MODE": "infer"}, tmp_path)[0]) == 15
