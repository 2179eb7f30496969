"""A study trains each row once, shares and keeps finished trainings, and its table comes back from its predictions."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from bundle.study import command as sweep
from bundle.study import folds, studies, summary
from bundle.study.studies import Row, Study
from helpers import data, metrics, training
from helpers.tasks import TASKS
from helpers.training import EPOCH_CURVES

ROOT = sweep.ROOT
QUICK = {"epochs": 1, "learning_rate": 1e-3, "weight_decay": 1e-2}
SMALL = Row("MelCNN", {"width": 2, "dropout": 0.0}, QUICK)
ROWS = {"small": SMALL, "half": replace(SMALL, share=0.5)}
STUDY = Study("Is half enough?", ROWS, baseline="small", tasks=("languages",), seeds=2)


@pytest.fixture
def options(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(studies.STUDIES, "toy", STUDY)
    given = {"study": "toy", "task": None, "data": str(toy / "languages"), "row": None, "seeds": None}
    given |= {"notebook": None, "grid": None, "executor": "local", "sbatch": [], "minutes": 5, "cpus": 1}
    return argparse.Namespace(**given, out=tmp_path / "sweep", jobs=1, keep=False)


def test_a_study_is_trained_once_and_its_table_comes_back_from_its_predictions(options, capsys):
    assert sweep.command(options) == 0
    path = options.out / "results" / "languages-languages" / "study_toy.json"
    first = json.loads(path.read_text())
    trainings = {file: file.stat().st_mtime_ns for file in options.out.glob("*.npz")}
    assert len(trainings) == 4
    assert list(first["rows"]) == ["small", "half"]
    clips = first["rows"]["small"]["train_clips"][0]
    assert first["rows"]["half"]["train_clips"] == [round(clips / 2)] * 2
    arrays = np.load(path.with_suffix(".npz"), allow_pickle=False)
    stacks = {name: arrays[f"row {name}"] for name in first["rows"]}
    again = summary.score_rows(stacks, arrays, TASKS["languages"], "small")
    for name, row in first["rows"].items():
        assert row["metrics"] == again[name]["metrics"]
        assert row.get("difference") == again[name].get("difference")
        values = [metrics.point_scores(one.astype(np.float32), arrays["targets"])["top1"] for one in stacks[name]]
        assert row["metrics"]["top1"]["value"] == pytest.approx(np.mean(values))
        assert row["metrics"]["top1"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert not np.array_equal(stacks["small"][0], stacks["small"][1])  # seeds differ

    assert sweep.command(options) == 0  # nothing is trained again
    assert {file: file.stat().st_mtime_ns for file in options.out.glob("*.npz")} == trainings
    assert json.loads(path.read_text()) == first
    assert "small" in capsys.readouterr().out


def test_every_clip_is_tested_once_over_the_folds(options, toy, monkeypatch):
    rows = {"apart": SMALL, "random": replace(SMALL, apart=False)}
    study = replace(STUDY, rows=rows, baseline="apart", seeds=1, folds=2, final=True)
    monkeypatch.setitem(studies.STUDIES, "toy", study)
    assert sweep.command(options) == 0
    path = options.out / "results" / "languages-languages" / "study_toy.json"
    pack, _ = folds.pooled(TASKS["languages"], str(toy / "languages"), sweep.ROOT)
    arrays = np.load(path.with_suffix(".npz"), allow_pickle=False)
    assert sorted(arrays["names"]) == sorted(pack.names)
    assert arrays["row random"].shape == (1, len(pack), 6)
    score = json.loads(path.read_text(), parse_constant=pytest.fail)["rows"]["apart"]["metrics"]["top1"]
    assert (score["n"], score["seeds"], score["deviation"]) == (len(pack), 1, None)


def test_a_failing_training_does_not_stop_the_others(options, monkeypatch, capsys):
    broken = Row("MelCNN", {"width": 2, "mels": 0}, QUICK)
    monkeypatch.setitem(studies.STUDIES, "toy", replace(STUDY, rows=ROWS | {"broken": broken}, seeds=1))
    assert sweep.command(options) == 1
    assert "FAILED languages broken, seed 0" in capsys.readouterr().out
    assert len(list(options.out.glob("*.npz"))) == 2
    assert not (options.out / "results").exists()  # no table with a row missing


@pytest.mark.parametrize(
    ("change", "words"),
    [({"row": ["tenth"]}, "No such row: tenth; there are small, half"), ({"task": ["nsynth", "languages"]}, "--task")],
)
def test_a_wrong_command_line_is_refused(options, capsys, change, words):
    assert sweep.command(argparse.Namespace(**vars(options) | change)) == 2
    assert words in capsys.readouterr().err


def test_the_studies_make_sense():
    for name, study in studies.STUDIES.items():
        assert study.baseline in study.rows, name
        assert set(study.tasks) <= set(TASKS), name
        for row in study.rows.values():
            for task in study.tasks:
                config, settings = sweep.resolve(row, TASKS[task], "demo", 3)
                assert settings.seed == 3
                assert settings.epochs == row.settings["epochs"]
                assert config["kind"] == row.kind
    rates = {
        sweep.resolve(row, TASKS["magnatagatune"], "demo", 0)[1] for row in studies.STUDIES["first_layer"].rows.values()
    }
    assert len(rates) == 1  # the five rows of the paper are trained alike


@pytest.mark.parametrize("task", TASKS)
def test_folds_test_every_clip_once_and_keep_groups_apart(toy, task):
    dealt = folds.deal(TASKS[task], str(toy / task), sweep.ROOT, 3)
    for fold in dealt:
        groups = [set(pack.groups) for pack in fold.splits.values()]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        assert all(len(pack) for pack in fold.splits.values())
    tested = [name for fold in dealt for name in fold.test.names]
    assert len(tested) == len(set(tested)) == sum(len(pack) for pack in dealt[0].splits.values())
    assert len({fold.digest for fold in dealt}) == 3


def test_clips_dealt_at_random_share_groups(toy):
    dealt = folds.deal(TASKS["nsynth"], str(toy / "nsynth"), sweep.ROOT, 3, apart=False)
    assert set(dealt[0].train.groups) & set(dealt[0].test.groups)
    tested = [name for fold in dealt for name in fold.test.names]
    assert len(tested) == len(set(tested))


def test_groups_that_are_unknown_cannot_be_kept_apart(toy, monkeypatch):
    known = folds.pooled

    def unknown(*given):
        pack, listing = known(*given)
        return replace(pack, groups=np.full(len(pack), "")), listing

    monkeypatch.setattr(folds, "pooled", unknown)
    with pytest.raises(ValueError, match="have no known group, expected one for each"):
        folds.deal(TASKS["languages"], str(toy / "languages"), sweep.ROOT)


def test_equal_samples_stand_in_one_fold_only(toy, monkeypatch):
    opened = folds.open_packs

    def twice(*given):
        packs, problems, changes = opened(*given)
        pack = packs["pooled"]
        return {"pooled": pack.select(np.r_[np.arange(len(pack)), 0, 1])}, problems, changes

    before = folds.pooled(TASKS["languages"], str(toy / "languages"), sweep.ROOT)[0]
    monkeypatch.setattr(folds, "open_packs", twice)
    after = folds.pooled(TASKS["languages"], str(toy / "languages"), sweep.ROOT)[0]
    assert after.names.tolist() == before.names.tolist()


def test_names_of_data():
    assert data.name_of("demo") == "demo"
    assert data.name_of("/some/Real speech_2/") == "real-speech-2"


def test_tuned_numbers_go_where_they_belong():
    config, settings = training.with_tuned(
        {"kind": "MelCNN"}, training.Settings(epochs=3), {"learning_rate": 0.1, "dropout": 0.4}
    )
    assert config == {"kind": "MelCNN", "dropout": 0.4}
    assert (settings.learning_rate, settings.epochs) == (0.1, 3)


def test_a_row_keeps_how_far_apart_the_curves_of_its_seeds_lie():
    infos = [
        {"valid_score": 0.5, "config": {}, "settings": {"seed": 0}, "precision": "", "parameters": 1,
         "clips": {"train": 2}, "minutes": 1.0, "best_epoch": 1, "curves": {key: [1.0, height] for key in EPOCH_CURVES}}
        for height in (2.0, 4.0)
    ]  # fmt: skip
    found = summary.describe(infos, studies.STUDIES["networks"].rows["mel_cnn"])
    assert found["curves"]["epoch_train_loss"] == [1.0, 3.0]
    assert found["curves_deviation"]["epoch_train_loss"] == [0.0, pytest.approx(2**0.5)]
    assert summary.describe(infos[:1], studies.STUDIES["networks"].rows["mel_cnn"])["curves_deviation"] is None


@pytest.mark.parametrize("program", [
    "from bundle.study import command as sweep; from concurrent.futures import ProcessPoolExecutor as Pool; "
    "from multiprocessing import get_context; "
    "Pool(1, get_context('spawn'), sweep._start_worker, (1,)).submit(time.sleep, 600).result()",
    "from helpers.data.demo import in_processes; in_processes(time.sleep, [600], 1, None)",
], ids=["sweep", "rendering"])  # fmt: skip
def test_workers_end_when_the_command_is_killed(program):
    command = subprocess.Popen([sys.executable, "-c", f"import time\nif __name__ == '__main__': {program}"], cwd=ROOT)
    parent = psutil.Process(command.pid)
    while not (
        workers := [child for child in parent.children() if "resource_tracker" not in " ".join(child.cmdline())]
    ):
        assert command.poll() is None
        time.sleep(0.1)
    time.sleep(5)  # until the worker has begun
    assert all(worker.is_running() for worker in workers)
    command.kill()
    command.wait()
    _, left = psutil.wait_procs(workers, timeout=30)
    for worker in left:
        worker.kill()
    assert not left
