"""On a real SLURM: jobs that are killed, preempted or failed cost no more than the epoch they were in."""

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bundle.study import cells
from bundle.study.cells import Cell

ROOT = Path(cells.ROOT)
SLEEPS = "import pathlib, time; pathlib.Path(r'{0}.begun').touch(); time.sleep(600)"
SECOND = "import pathlib, time; p = pathlib.Path(r'{0}'); b = p.with_suffix('.begun')\n"
SECOND += "if b.exists(): p.touch()\nelse: b.touch(); time.sleep(600)"  # the first attempt waits to be preempted


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
def options(monkeypatch):
    monkeypatch.setattr(cells, "POLL", 0.2)
    return argparse.Namespace(executor="slurm", jobs=None, minutes=10, sbatch=[("cpus-per-task", "1")])


def wait_for(found, process=None):
    """What `found` returns as soon as it is true; the process must not end before."""
    while not (value := found()):
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    return value


def send(signal, number):
    """To a job's steps. Told to "try again later" though it has arrived, scancel would send it to the next attempt."""
    subprocess.run(["timeout", "3", "scancel", f"--signal={signal}", number])  # fails when the job is quicker


def first_epochs(folder):
    """The epoch that every attempt of a training has logged first, in order."""
    files = sorted(folder.rglob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    logs = [EventAccumulator(str(path)).Reload() for path in files]
    return [int(log.Scalars("epoch")[0].value) for log in logs if "epoch" in log.Tags()["scalars"]]


def test_a_failed_and_a_killed_job_are_explained_and_a_preempted_one_runs_again(slurm, options, tmp_path):
    code = {"fine": "open(r'{0}', 'w')", "failing": "int('x')", "killed": SLEEPS, "preempted": SECOND}
    wanted = [Cell(name, tmp_path / name, partial(exec, text.format(tmp_path / name))) for name, text in code.items()]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cells.run, wanted, tmp_path / "slurm", options)
        for cell, signal in zip(wanted[2:], ("KILL", "USR2"), strict=True):
            wait_for((tmp_path / f"{cell.title}.begun").exists)
            send(signal, cell.note.read_text())
        failed = running.result()
    assert len(failed) == 2
    explained = {error.split(":")[0]: error for error in failed}
    assert re.search(r"job \d+_1: .*ValueError: invalid literal for int.*_log.err\)", explained["failing"])
    assert re.search(r"job \d+_2: .*[Kk]illed.*_log.err\)", explained["killed"])
    assert [cell.result.exists() for cell in wanted] == [True, False, False, True]
    assert not list(tmp_path.glob("*.job"))


def interrupt(seconds):
    raise KeyboardInterrupt


def test_a_second_command_waits_for_the_jobs_of_the_first(slurm, options, tmp_path, monkeypatch, capsys):
    code = "import pathlib, time\nwhile not pathlib.Path(r'{0}.go').exists(): time.sleep(0.1)\nopen(r'{0}', 'x')"
    cell = Cell("slow", tmp_path / "slow", partial(exec, code.format(tmp_path / "slow")))
    with monkeypatch.context() as patch:
        patch.setattr(cells.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cells.run([cell], tmp_path / "slurm", options)
    number = cell.note.read_text()
    assert f"the same command waits for them; scancel {number} ends them." in capsys.readouterr().out
    (tmp_path / "slow.go").touch()
    assert cells.run([cell], tmp_path / "slurm", options) == []
    assert "1 jobs of an earlier command are still there" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "slurm").glob("*_submitted.pkl")] == [f"{number}_submitted.pkl"]


def test_a_training_that_is_preempted_goes_on_after_its_last_epoch(slurm, toy, tmp_path):
    command = [sys.executable, "-m", "bundle", "sweep", "raw_cnn", "--executor", "slurm", "--sbatch", "cpus-per-task=1"]
    command += ["--task", "languages", "--data", str(toy / "languages"), "--seeds", "1", "--out", str(tmp_path)]
    command += ["--grid", "length=1024", "stride=1024", "epochs=30"]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    checkpoint = wait_for(lambda: next(tmp_path.rglob("checkpoint.pt"), None), process)
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    send("USR2", next(tmp_path.rglob("*.job")).read_text())
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert first_epochs(tmp_path)[-1] > epoch >= 1
    found = json.loads((tmp_path / "results/languages-languages/study_raw_cnn.json").read_text())
    score = found["rows"]["length=1024,stride=1024,epochs=30"]["metrics"]["top1"]
    assert (score["seeds"], score["n"]) == (1, 48)
    assert f"| {score['value']:.3f} ({score['low']:.3f} – {score['high']:.3f}) | 1 | 48 |" in output


def test_the_batch_script_trains_on_two_tasks_and_continues_after_its_signal(slurm, toy, tmp_path):
    given = {"TASK": "languages", "DATA": str(toy / "languages"), "EPOCHS": "30", "LENGTH": "1024", "STRIDE": "1024"}
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
    wait_for(lambda: number not in cells.queued())
    said = log.read_text()
    assert "back into the queue" in said, said
    (results,) = tmp_path.rglob("03_raw_audio_cnn.json")
    found = json.loads(results.read_text())
    assert found["curves"]["epoch"] == list(range(1, 31))
    assert "best epoch" in said
    assert "on 2 device(s)" in said
    assert first_epochs(tmp_path / "out")[-1] > epoch >= 1
