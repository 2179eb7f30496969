"""A sweep runs each cell once, shares and keeps finished ones, and its table comes back from its predictions."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from bundle.__main__ import main
from bundle.results import Study, study_table
from bundle.study import cells, command, folds, studies, summary, trainings
from helpers import metrics
from helpers.tasks import TASKS
from helpers.training import EPOCH_CURVES

ROOT = cells.ROOT
SMALL = studies.Row("mel_cnn", {"width": 2, "epochs": 1})
ROWS = {"small": SMALL, "half": replace(SMALL, share=0.5), "broken": replace(SMALL, changes={"balance": "nothing"})}


@pytest.fixture
def sweep(toy, tmp_path, monkeypatch):
    """Run a study of these rows on the toy languages, all in one process: exit code, and the results file's path."""

    def run(rows, **given):
        monkeypatch.setitem(studies.STUDIES, "toy", studies.Study("Is it?", rows, next(iter(rows)), **given))
        usual = ["--task", "languages", "--data", str(toy / "languages"), "--out", str(tmp_path), "--jobs", "2"]
        return main(["sweep", "toy", *usual]), tmp_path / "results/languages-languages/study_toy.json"

    return run


def test_a_queue_that_does_not_answer_is_asked_again_and_not_for_ever(tmp_path, monkeypatch):
    squeue, asked = tmp_path / "squeue", tmp_path / "asked"
    squeue.write_text(f'#!/bin/sh\necho x >> "{asked}"\necho "no controller" >&2\n[ -e "{tmp_path}/up" ] && echo 7_0\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(cells, "POLL", 0)
    with pytest.raises(RuntimeError, match=r"squeue: no controller\. Jobs in the queue go on"):
        cells.queued()
    assert asked.read_text().count("x") == cells.PATIENCE
    (tmp_path / "up").touch()
    assert cells.queued() == {"7_0"}


def test_a_study_is_trained_once_and_its_table_comes_back_from_its_predictions(sweep, tmp_path, capsys):
    code, path = sweep(ROWS, seeds=2)
    output = capsys.readouterr().out
    trained = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")}
    assert (code, len(trained)) == (1, 4)  # a failing training does not stop the others
    assert "FAILED languages broken, seed 0: ValueError: " in output
    assert "2 of 6 cells failed; the same command runs only these again." in output
    assert not path.exists()  # no table with a row missing

    assert sweep({name: ROWS[name] for name in ("half", "small")}, seeds=2, balanced=True)[0] == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npz")} == trained
    found = json.loads(path.read_text())
    output = capsys.readouterr().out
    assert "4 cells, 4 finished before" in output
    assert study_table(Study(path, found)) in output
    half, small, _ = found["rows"].values()
    assert half["train_clips"] == [round(small["train_clips"][0] / 2)] * 2
    arrays = np.load(path.with_suffix(".npz"), allow_pickle=False)
    stacks = {name: arrays[f"row {name}"] for name in found["rows"]}
    again = summary.score_rows(arrays, TASKS["languages"], "half", balanced=True)
    for name, row in found["rows"].items():
        assert row["metrics"] == again[name]["metrics"]
        assert row.get("difference") == again[name].get("difference")
        values = [metrics.point_scores(one.astype(np.float32), arrays["targets"])["top1"] for one in stacks[name]]
        assert row["metrics"]["top1"]["value"] == pytest.approx(np.mean(values))
        assert row["metrics"]["top1"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert not np.array_equal(stacks["small"][0], stacks["small"][1])  # seeds differ
    assert not np.array_equal(stacks["half"], stacks[summary.CORRECTED])  # half of the clips are not balanced


def test_every_clip_is_tested_once_over_the_folds(sweep, toy, monkeypatch):
    monkeypatch.setattr(cells, "here", lambda missing, jobs: [(cell, cell()) for cell in missing])
    code, path = sweep({"apart": SMALL, "random": replace(SMALL, apart=False)}, seeds=1, folds=2, scored="final epoch")
    assert code == 0
    pack, _ = folds.pooled(TASKS["languages"], str(toy / "languages"), ROOT)
    arrays = np.load(path.with_suffix(".npz"), allow_pickle=False)
    assert sorted(arrays["names"]) == sorted(pack.names)
    assert arrays["row random"].shape == (1, len(pack), 6)
    score = json.loads(path.read_text(), parse_constant=pytest.fail)["rows"]["apart"]["metrics"]["top1"]
    assert (score["n"], score["seeds"], score["deviation"]) == (len(pack), 1, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("networks --data .", "--data FOLDER holds one task's data: name it with --task."),
        ("first_layer --grid length=512", "--grid goes with a network"),
        ("raw_cnn", "a network with --grid"),
        ("", "the following arguments are required: study"),
        ("raw_cnn --grid length", "--grid: found 'length', expected NAME=VALUE."),
        ("raw_cnn --grid lenght=512", "unexpected keyword argument 'lenght'"),
        ("raw_cnn --grid length=512,long", "configuration of RawCNN: "),
        ("networks --sbatch partition=gpu", "--sbatch goes with --executor slurm."),
        ("networks --seeds 0", "found '0', expected a whole number of at least 1."),
        ("networks --sbatch partition", "--sbatch: found 'partition', expected NAME=VALUE."),
        ("networks --executor slurm", "sbatch is not on the PATH"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", *arguments.split()])
    assert words in capsys.readouterr().err


def test_a_grid_trains_every_combination_of_options_and_settings():
    study = command.grid("raw_cnn", [("length", "512,256"), ("epochs", "3"), ("batch_norm", "True")])
    assert list(study.rows) == [f"length={length},epochs=3,batch_norm=True" for length in (512, 256)]
    config, settings = trainings.resolve(study.rows[study.baseline], TASKS["magnatagatune"], "demo", 7)
    assert (config["length"], config["stride"], config["batch_norm"]) == (512, 256, True)
    assert (settings.epochs, settings.seed) == (3, 7)


def test_the_studies_make_sense():
    for name, study in studies.STUDIES.items():
        assert study.baseline in study.rows, name
        assert study.scored in ("best epoch", "final epoch"), name
        assert set(study.tasks) <= set(TASKS), name
        for row in study.rows.values():
            for task in study.tasks:
                _, settings = trainings.resolve(row, TASKS[task], "demo", 3)
                assert settings.seed == 3
                assert settings.epochs == row.changes.get("epochs", trainings.EPOCHS)
    layers = studies.STUDIES["first_layer"]
    found = [trainings.resolve(row, TASKS["magnatagatune"], "demo", 0) for row in layers.rows.values()]
    published = [(1024, 1024), (1024, 512), (512, 512), (512, 256), (256, 256)]
    assert [(config["length"], config["stride"]) for config, _ in found] == published
    assert len({settings for _, settings in found}) == 1  # the five rows of the paper are trained alike


def test_a_finished_training_keeps_its_name(monkeypatch):
    monkeypatch.setattr(trainings, "datasets", lambda *given: [SimpleNamespace(digest="0")])
    row = studies.STUDIES["first_layer"].rows["256/256"]
    (cell,) = trainings.cells_of(row, "", "magnatagatune", "demo", 0, 0, ROOT)
    assert cell.result.name == "magnatagatune-fb364bad91128136.npz"


@pytest.mark.parametrize("task", TASKS)
def test_folds_test_every_clip_once_and_keep_groups_apart(toy, task):
    dealt = folds.deal(TASKS[task], str(toy / task), ROOT, 3)
    for fold in dealt:
        groups = [set(pack.groups) for pack in fold.splits.values()]
        assert len(set.union(*groups)) == sum(map(len, groups))
        assert all(groups)
    tested = [name for fold in dealt for name in fold.test.names]
    assert len(tested) == len(set(tested)) == sum(len(pack) for pack in dealt[0].splits.values())
    assert len({fold.digest for fold in dealt}) == 3


def test_clips_dealt_at_random_share_groups(toy):
    dealt = folds.deal(TASKS["nsynth"], str(toy / "nsynth"), ROOT, 3, apart=False)
    assert set(dealt[0].train.groups) & set(dealt[0].test.groups)


def test_groups_that_are_unknown_cannot_be_kept_apart(toy, monkeypatch):
    known = folds.pooled

    def unknown(*given):
        pack, listing = known(*given)
        return replace(pack, groups=np.full(len(pack), "")), listing

    monkeypatch.setattr(folds, "pooled", unknown)
    with pytest.raises(ValueError, match="have no known group, expected one for each"):
        folds.deal(TASKS["languages"], str(toy / "languages"), ROOT)


def test_equal_samples_stand_in_one_fold_only(toy, monkeypatch):
    opened = folds.open_packs

    def twice(*given):
        packs, problems, changes = opened(*given)
        pack = packs["pooled"]
        return {"pooled": pack.select(np.r_[np.arange(len(pack)), 0, 1])}, problems, changes

    before = folds.pooled(TASKS["languages"], str(toy / "languages"), ROOT)[0]
    monkeypatch.setattr(folds, "open_packs", twice)
    after = folds.pooled(TASKS["languages"], str(toy / "languages"), ROOT)[0]
    assert after.names.tolist() == before.names.tolist()


def test_a_row_keeps_how_far_apart_the_curves_of_its_seeds_lie():
    infos = [
        dict.fromkeys(summary.SAME) | {
            "settings": {"seed": 0}, "clips": {"train": 2}, "minutes": 1.0,
            "curves": {key: [1.0, height] for key in EPOCH_CURVES},
        }
        for height in (2.0, 4.0)
    ]  # fmt: skip
    found = summary.describe(infos)
    assert found["valid"] == {"value": 3.0}
    assert found["curves"]["epoch_train_loss"] == [1.0, 3.0]
    assert found["curves_deviation"]["epoch_train_loss"] == [0.0, pytest.approx(2**0.5)]
    assert summary.describe(infos[:1])["curves_deviation"] is None


WORK = "import pathlib, time; pathlib.Path(r'{}').touch(); time.sleep(600)"
SWEEP = "from functools import partial; from bundle.study import cells; "
SWEEP += "list(cells.here([cells.Cell('', None, partial(exec, WORK))] * 3, 1))"
RENDERING = "from demo import in_processes; in_processes(exec, [WORK], 1, None)"


@pytest.mark.parametrize(
    ("program", "end"),
    [(SWEEP, signal.SIGKILL), (SWEEP, signal.SIGINT), (RENDERING, signal.SIGKILL)],
    ids=["sweep, killed", "sweep, Ctrl-C", "rendering, killed"],
)
def test_workers_end_with_the_command(program, end, tmp_path):
    program = f"WORK = {WORK.format(tmp_path / 'begun')!r}\nif __name__ == '__main__': {program}"
    command = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, start_new_session=True)
    while not (tmp_path / "begun").exists():
        assert command.poll() is None
        time.sleep(0.1)
    workers = psutil.Process(command.pid).children()
    assert workers
    if end == signal.SIGINT:
        os.killpg(command.pid, end)  # as the terminal does
    else:
        command.kill()
    assert command.wait(30)
    _, left = psutil.wait_procs(workers, timeout=30)
    for worker in left:
        worker.kill()
    assert not left
