"""On a real SLURM: jobs that are killed, preempted or failed cost no more than the epoch they were in."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.study import cluster, grid, studies
from bundle.study import command as sweep
from bundle.study.studies import Row, Study

ROOT = Path(sweep.ROOT)


@pytest.fixture(scope="module")
def slurm():
    """Skip where the cluster of tests/slurm.sh does not run; nothing is sent to another one."""
    try:
        done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no SLURM for tests here ({type(error).__name__}: scontrol); tests/slurm.sh starts one")
    if done.returncode or "one-node-for-tests" not in done.stdout:
        pytest.skip(f"no SLURM for tests here ({done.stderr.strip() or 'another one'}); tests/slurm.sh starts one")


@pytest.fixture
def options(toy, tmp_path):
    return argparse.Namespace(
        study=None, notebook=None, grid=None, task=["languages"], data=str(toy / "languages"), row=None, seeds=2,
        out=tmp_path / "sweep", jobs=None, keep=False, executor="slurm", minutes=10, cpus=1, sbatch=[],
    )  # fmt: skip


def wait_for(found, process=None):
    """What `found` returns as soon as it is true; the process must not end before."""
    while not (value := found()):
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    return value


def first_epochs(folder):
    """The epoch that every attempt of a training has logged first, in order."""
    files = sorted(folder.rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    logs = [EventAccumulator(str(path)).Reload() for path in files]
    return [int(log.Scalars("epoch")[0].value) for log in logs if "epoch" in log.Tags()["scalars"]]


def test_of_four_cells_a_killed_one_is_reported_and_run_again_and_a_preempted_one_resumes(slurm, options):
    command = [sys.executable, "-m", "bundle", "sweep", "--notebook", "03", "--executor", "slurm", "--cpus", "1"]
    command += ["--task", "languages", "--data", options.data, "--seeds", "2", "--out", str(options.out)]
    command += ["--grid", "LENGTH=1024,512", "STRIDE=1024", "EPOCHS=60"]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    folder = options.out.resolve() / "grid" / "languages-languages" / "03_raw_audio_cnn"
    names = [f"LENGTH={length},STRIDE=1024,EPOCHS=60,SEED={seed}" for length in (1024, 512) for seed in (0, 1)]
    epochs = []
    for name, signal in zip(names, ("KILL", "USR1"), strict=False):
        checkpoint = wait_for(lambda name=name: next((folder / name).rglob("checkpoint.pt"), None), process)
        epochs.append(torch.load(checkpoint, weights_only=True)["epoch"])
        number = next((folder / name).rglob("*.job")).read_text()
        # Told to "try again later" though the signal has arrived, scancel sends it again 5 s on: to the restarted job
        subprocess.run(["timeout", "3", "scancel", f"--signal={signal}", number])  # fails when the job is quicker
    output, _ = process.communicate()
    assert process.returncode == 1, output
    failed = [line for line in output.splitlines() if line.startswith("FAILED LENGTH") and ": job " in line]
    assert len(failed) == 1
    assert failed[0].startswith(f"FAILED {names[0]} 03_raw_audio_cnn: job ")
    assert "CANCELLED" in failed[0]
    assert any(word in failed[0] for word in ("; srun: Force Terminated", "; RuntimeError: "))  # whichever ended last
    assert failed[0].endswith("_log.err)")
    assert "1 of 4 cells failed; the same command runs only these again." in output
    assert not (folder / "grid.json").exists()
    results = {name: folder / name / "results" / "03_raw_audio_cnn.json" for name in names}
    assert [results[name].is_file() for name in names] == [False, True, True, True]
    before = {name: results[name].stat().st_mtime_ns for name in names[1:]}

    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 cells, 3 finished before" in done.stdout
    assert {name: results[name].stat().st_mtime_ns for name in names[1:]} == before
    for name, epoch in zip(names, epochs, strict=False):  # killed and preempted: both went on where they were
        assert first_epochs(folder / name)[-1] > epoch >= 1
    summary = json.loads((folder / "grid.json").read_text())
    assert list(summary["rows"]) == ["LENGTH=1024", "LENGTH=512"]
    for row in summary["rows"].values():
        assert (row["metrics"]["top1"]["seeds"], row["metrics"]["top1"]["n"]) == (2, 48)
        assert row["metrics"]["top1"]["deviation"] is not None
    assert (folder / "grid.md").read_text() in done.stdout
    assert not list(folder.rglob("*.job"))


def test_a_study_runs_on_the_cluster_and_says_why_a_training_failed(slurm, options, monkeypatch, capsys):
    small = Row("MelCNN", {"width": 2, "dropout": 0.0}, {"epochs": 1, "learning_rate": 1e-3, "weight_decay": 1e-2})
    rows = {"small": small, "broken": replace(small, settings=small.settings | {"balance": "nothing"})}
    monkeypatch.setitem(studies.STUDIES, "toy", Study("Does it break?", rows, baseline="small"))
    options.study, options.seeds = "toy", 1
    assert sweep.command(options) == 1
    output = capsys.readouterr().out
    assert "FAILED languages broken, seed 0: job " in output
    assert "ValueError: balance: found 'nothing', expected" in output
    assert len(list(options.out.glob("*.npz"))) == 1
    assert not list(options.out.glob("*.job"))


def test_the_batch_script_trains_on_two_tasks_and_continues_after_its_signal(slurm, options, tmp_path):
    given = {"TASK": "languages", "DATA": options.data, "EPOCHS": "30", "LENGTH": "1024", "STRIDE": "1024"}
    given |= {"OUT": str(tmp_path / "out"), "VENV": sys.prefix}
    log = tmp_path / "train.log"
    sizes = ["--array=0", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem=1G", f"--output={log}", "--parsable"]
    exported = "--export=ALL," + ",".join(f"{name}={value}" for name, value in given.items())
    submitted = subprocess.run(
        ["sbatch", *sizes, exported, "slurm/train.sbatch"], cwd=ROOT, text=True, capture_output=True, check=True
    )
    number = submitted.stdout.strip() + "_0"
    checkpoint = wait_for(lambda: next(tmp_path.rglob("checkpoint.pt"), None))
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)
    wait_for(lambda: number not in cluster.queued())
    said = log.read_text()
    assert "back into the queue" in said, said
    (results,) = tmp_path.rglob("03_raw_audio_cnn.json")
    found = json.loads(results.read_text())
    assert found["curves"]["epoch"] == list(range(1, 31))
    assert "best epoch" in said
    assert "on 2 device(s)" in said
    assert first_epochs(tmp_path / "out")[-1] > epoch >= 1


def test_a_grid_runs_without_a_cluster_too_and_a_finished_cell_only_once(options, capsys):
    changed = {"notebook": "03", "grid": ["LENGTH=1024", "STRIDE=1024", "EPOCHS=2"], "executor": "local", "seeds": 1}
    options = argparse.Namespace(**vars(options) | changed | {"jobs": 1})
    assert sweep.command(options) == 0
    (path,) = options.out.rglob("grid.json")
    first, made = path.read_text(), {file: file.stat().st_mtime_ns for file in options.out.rglob("03_raw*.json")}
    (row,) = json.loads(first, parse_constant=pytest.fail)["rows"].values()
    assert (row["metrics"]["top1"]["seeds"], row["metrics"]["top1"]["deviation"]) == (1, None)
    (cell,) = (json.loads(file.read_text()) for file in made)
    assert row["metrics"]["top1"]["value"] == pytest.approx(cell["metrics"]["top1"]["value"])
    assert row["final_epoch"]["value"] == cell["metrics"]["final_epoch_top1"]["value"]
    assert sweep.command(options) == 0
    assert path.read_text() == first
    assert {file: file.stat().st_mtime_ns for file in options.out.rglob("03_raw*.json")} == made
    assert "1 cells, 1 finished before" in capsys.readouterr().out


def test_the_published_rows_are_the_default_grid():
    rows = grid.rows_of("03_raw_audio_cnn", {})
    assert [tuple(row.values()) for row in rows] == [(1024, 1024), (1024, 512), (512, 512), (512, 256), (256, 256)]
    assert len(grid.rows_of("03_raw_audio_cnn", {"EPOCHS": [1, 2]})) == 10
    assert grid.rows_of("03_raw_audio_cnn", {"STRIDE": [64]}) == [{"STRIDE": 64}]
    assert grid.rows_of("04_mel_cnn", {"LOG": [True], "EPOCHS": [1]}) == [{"LOG": True, "EPOCHS": 1}]


WRONG = [
    ({"notebook": "0"}, "--notebook takes one of 02_baseline_svm"),
    ({"grid": ["LENGTH"]}, "--grid: found 'LENGTH', expected NAME=VALUE,VALUE."),
    ({"grid": ["LENGHT=512"]}, "Unknown parameter LENGHT, expected one of"),
    ({"grid": ["LENGTH=512,long"]}, "LENGTH: found 'long' (str), expected int."),
    ({"grid": ["SEED=1,2"]}, "SEED are given with --task, --data and --seeds"),
    ({"keep": True}, "--keep and --row are for studies"),
    ({"study": "first_layer"}, "Name a study (first_layer, "),
    ({"notebook": None}, "Name a study (first_layer, "),
    ({"sbatch": ["partition"]}, "--sbatch: found 'partition', expected NAME=VALUE."),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_wrong_command_line_is_refused(options, capsys, change, words):
    given = vars(options) | {"notebook": "03", "executor": "local"} | change
    assert sweep.command(argparse.Namespace(**given)) == 2
    assert words in capsys.readouterr().err


def test_without_slurm_the_command_says_so(options, capsys, monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    options.notebook = "03"
    assert sweep.command(options) == 2
    assert "sbatch is not on the PATH" in capsys.readouterr().err


def test_a_cell_of_other_parameters_or_data_is_not_taken_for_finished(options, toy, tmp_path):
    job = grid.Job("03_raw_audio_cnn", {"TASK": "languages", "LENGTH": 512}, tmp_path)
    digest = grid.digest_of("languages", options.data, "")

    def finished(length, digest):
        grid.result_of(job).parent.mkdir(exist_ok=True)
        found = {"parameters": {"TASK": "languages", "LENGTH": length, "CLASSES": ""}, "data_digest": digest}
        grid.result_of(job).write_text(json.dumps(found))
        return grid.finished(job, options.data)

    assert not grid.finished(job, options.data)
    assert finished(512, digest)
    assert not finished(256, digest)
    assert not finished(512, "0" * 64)
