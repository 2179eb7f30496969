"""python -m bundle reproduce: claims against predictions, against training again, tolerances, exit codes, the page."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle import results
from bundle.__main__ import main
from bundle.reproduce import command as reproduce
from bundle.reproduce.tolerance import tolerances
from bundle.run import command as run
from helpers import metrics

PLACE = "languages-demo"
RUN_04, RUN_05, STUDY, SEARCH = (
    f"{PLACE}/{name}" for name in ("04_mel_cnn", "05_evaluation", "study_networks", "tuning_svm")
)


@pytest.fixture
def reported(tmp_path):
    """A bundle's report/results with two notebooks, a study and a search of the committed ones, and its READMEs."""
    folder = tmp_path / "report" / "results"
    (folder / PLACE).mkdir(parents=True)
    for name in (RUN_04, RUN_05, STUDY, SEARCH):
        for path in (results.RESULTS / PLACE).glob(f"{Path(name).name}.*"):
            shutil.copy(path, folder / PLACE)
    table = results.with_table(f"# Toy\n{results.BEGIN}{results.END}\n", results.readme_table(results.read(folder)))
    (tmp_path / "README.md").write_text(table)
    (folder / "README.md").write_text(results.studies_page(results.read(folder)))
    return folder


@pytest.fixture
def executed(monkeypatch):
    """Let every notebook give what is reported, without executing it; returns the jobs, and what they give."""
    given = {Path(name).name: results.load(results.RESULTS / f"{name}.json") for name in (RUN_04, RUN_05)}
    asked = []

    def execute(jobs, *_, **__):
        asked.extend(jobs)
        return [run.Outcome(job, 1.0, given[job.notebook]) for job in jobs]

    monkeypatch.setattr(reproduce, "execute", execute)
    return asked, given


def edit(path: Path, change) -> None:
    """Let `change` alter a JSON file's content."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def call(folder: Path, *arguments: str) -> tuple[int, dict]:
    """Run the command on results in `folder`; exit code and what it wrote."""
    out = folder.parent / "out"
    code = main(["reproduce", "--results", str(folder), "--out", str(out), *arguments])
    return code, json.loads((out / "reproduction.json").read_text())


def claims(report: dict, source: str) -> dict:
    """Claims of one source by figure."""
    return {claim["figure"]: claim for one in report["sources"] if one["source"] == source for claim in one["claims"]}


def failed(report: dict) -> set[tuple[str, str]]:
    """Source and figure of all that fails."""
    return {
        (one["source"], claim["figure"])
        for one in report["sources"]
        for claim in one["claims"]
        if claim["verdict"] == "fail"
    }


def test_honest_results_hold_when_everything_is_executed_again(toy, tmp_path, capfd):
    given = {"MODE": "train", "EPOCHS": 1, "CLASSES": "en,es", "DATA": str(toy / "languages")}
    jobs, _ = run.plan(["languages"], ["04_mel_cnn", "05_evaluation"], given, tmp_path)
    assert not [outcome.error for outcome in run.execute(jobs, 1, 30, ordered=True) if outcome.error]
    shutil.copytree(tmp_path / "languages/results", tmp_path / "report/results/languages-languages")
    code, report = call(tmp_path / "report/results", "--jobs", "1")
    assert code == 0, capfd.readouterr().out
    assert report["verdict"] == "holds"
    first, second = report["sources"][:2]
    assert first["identical"]  # the same machine, threads and versions
    assert second["identical"]
    assert "MODE 'train'" in first["told"]
    assert "MODE 'infer'" in second["told"]  # scores what 04 has just trained
    assert "Environment: the same" in first["told"]
    figures = claims(report, "languages-languages/04_mel_cnn")
    score, loss = figures["mel_cnn_top1"], figures["mel_cnn_plain: training loss"]
    assert score["reported"] == score["recomputed"] == score["measured"]
    assert {score["verdict"], loss["verdict"], figures["difference: log - no log"]["verdict"]} == {"pass"}
    assert "the same to the last bit" in loss["note"]
    assert claims(report, "languages-languages/05_evaluation")["mel_cnn_calibration_error"]["verdict"] == "pass"
    page = (tmp_path / "report/out/reproduction.html").read_text()
    assert page.count("<svg") == 3
    for word in ("<script", "src=", "http://"):
        assert word not in page.replace("http://www.w3.org", "")


def metric(**change):
    """Edit a metric of notebook 05 by hand."""
    return said(RUN_05, lambda content: content["metrics"]["mel_cnn_nolog_top3"].update(change))


def said(name, change):
    """Edit a JSON file by hand."""
    return lambda folder: edit(folder / f"{name}.json", change)


def row(change):
    """Edit a row of the study by hand."""
    return said(STUDY, lambda content: change(content["rows"]["mel_cnn"]))


def predicted(change):
    """Edit the predictions of notebook 04 by hand."""

    def act(folder):
        path = folder / f"{RUN_04}.npz"
        arrays = dict(np.load(path))
        np.savez(path, **arrays | change(arrays))

    return act


def gone(name):
    return lambda folder: (folder / name).unlink()


def cut(name):
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def called(name, other):
    return lambda folder: shutil.copy(folder / f"{name}.json", folder / f"{other}.json")


def rewritten(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


TOP3, README = (RUN_05, "mel_cnn_nolog_top3"), ("README.md", "README.md")


@pytest.mark.parametrize(
    ("act", "claim", "words"),
    [
        (metric(value=0.99), TOP3, "value: reported 0.99, found 0.8"),
        (metric(value=float("nan")), TOP3, "value: reported nan, found 0.8"),
        (metric(value="0.9"), TOP3, "value: reported 0.9, found 0.8"),
        (metric(low=0.0), TOP3, "low: reported 0.0, found"),
        (metric(high=1.0), TOP3, "high: reported 1.0, found"),
        (metric(n=1000), TOP3, "n: reported 1000, found 480"),
        (metric(chance=0), TOP3, "chance: reported 0, found 0.5"),
        (said(RUN_04, lambda one: one.update(data_digest="0" * 64)), (RUN_04, "data digest"), "reported 000000"),
        (
            said(RUN_04, lambda one: one["metrics"]["difference: log - no log"].update(value=0.5)),
            (RUN_04, "difference: log - no log"), "value: reported 0.5, found 0.0",
        ),
        (
            said(RUN_05, lambda one: one["metrics"]["mel_cnn_calibration_error"].update(value=0.01)),
            (RUN_05, "mel_cnn_calibration_error"), "value: reported 0.01, found 0.",
        ),
        (predicted(lambda one: {"mel_cnn": np.eye(6)[one["targets"]]}), (RUN_04, "mel_cnn_top1"), "found 1.0"),
        (
            predicted(lambda one: {"targets": one["mel_cnn"].argmax(axis=1)}),  # every prediction right
            (RUN_04, "clips of the predictions"), "targets: not those of the test split",
        ),
        (gone(f"{RUN_05}.npz"), (RUN_05, "predictions"), "05_evaluation.npz is missing beside 05_evaluation.json"),
        (gone(f"{STUDY}.npz"), (STUDY, "predictions"), "study_networks.npz is missing"),
        (cut(f"{RUN_04}.json"), (RUN_04, "04_mel_cnn.json"), "cannot be read as results"),
        (cut(f"{RUN_04}.npz"), (RUN_04, "04_mel_cnn.json"), "cannot be read as results"),
        (cut(f"{STUDY}.npz"), (STUDY, "study_networks.json"), "cannot be read as results"),
        (
            called(RUN_05, f"{PLACE}/03_raw_audio_cnn"), (f"{PLACE}/03_raw_audio_cnn", "03_raw_audio_cnn.json"),
            "it is of languages-demo/05_evaluation",
        ),
        (
            called(STUDY, f"{PLACE}/study_deeper"), (f"{PLACE}/study_deeper", "study_deeper.json"),
            "it is of languages-demo, study networks",
        ),
        (row(lambda one: one["metrics"]["top1"].update(value=0.9)), (STUDY, "mel_cnn: top1"), "value: reported 0.9"),
        # A wide deviation would make a wide tolerance
        (row(lambda one: one["metrics"]["top1"].update(deviation=0.5)), (STUDY, "mel_cnn: top1"), "deviation: "),
        (row(lambda one: one["metrics"]["top1"].update(deviation=None)), (STUDY, "mel_cnn: top1"), "deviation: "),
        (row(lambda one: one["difference"].update(low=0.01)), (STUDY, "mel_cnn: difference"), "low: reported 0.01"),
        (row(lambda one: one.pop("metrics")), (STUDY, "study_networks.json"), "cannot be read as results"),
        (said(SEARCH, lambda one: one.update(best_score=0.99)), (SEARCH, "best_score"), "reported 0.99"),
        (said(SEARCH, lambda one: one.update(best={"cost": 2.0})), (SEARCH, "best"), "reported {'cost': 2.0}"),
        (
            rewritten("../../README.md", "rendered demo: top-1 | 0.", "rendered demo: top-1 | 9."), README,
            "it lacks: | Spoken languages, rendered demo: top-1 | 0.677",
        ),
        (rewritten("../../README.md", results.BEGIN, ""), README, "cannot be compared with the results"),
        (
            rewritten("README.md", "| mel_cnn | 0.", "| mel_cnn | 9."), ("README.md", "report/results/README.md"),
            "it lacks: | mel_cnn | 0.",
        ),
    ],
)  # fmt: skip
def test_what_is_edited_damaged_or_missing_is_named(reported, capsys, act, claim, words):
    act(reported)
    code, report = call(reported, "--no-train")
    assert code == 1
    assert claim in failed(report)
    assert words in claims(report, claim[0])[claim[1]]["note"]
    assert f"FAILED {claim[0]} {claim[1]}: " in capsys.readouterr().out
    assert {name for name, _ in failed(report)} <= {claim[0], "README.md"}  # the others are judged, and hold
    assert claims(report, RUN_05)["svm_top1"]["verdict"] != "fail"


def test_what_cannot_be_checked_does_not_fail(reported):
    for name in (RUN_04, RUN_05):
        edit(reported / f"{name}.json", lambda content: content["parameters"].update(DATA="/nowhere/at/all"))
    (reported / "../../README.md").unlink()
    code, report = call(reported, "--no-train")
    assert code == 0
    found = claims(report, RUN_04)
    clips, loss, readme = found["clips of the predictions"], found["mel_cnn: training loss"], claims(report, README[0])
    assert {clips["verdict"], loss["verdict"], readme["README.md"]["verdict"]} == {"not checkable"}
    assert clips["note"].startswith("the data cannot be loaded: DATA: found no folder '/nowhere/at/all'")
    assert loss["note"] == "only training again gives it"


def test_figure_and_predictions_edited_alike_are_found_by_training_again(reported, executed, capsys):
    path = reported / f"{RUN_04}.npz"
    predicted(lambda arrays: {"mel_cnn_nolog": np.eye(6, dtype=np.float32)[arrays["targets"]]})(reported)
    arrays = dict(np.load(path))
    clips = arrays["targets"], arrays["groups"]

    def perfect(content):
        scores = metrics.scores(arrays["mel_cnn_nolog"], *clips)
        content["metrics"] |= {f"mel_cnn_nolog_{name}": score for name, score in scores.items()}
        content["metrics"]["difference: log - no log"] = metrics.paired_difference(
            "top1", arrays["mel_cnn_nolog"], arrays["mel_cnn"], *clips
        )

    edit(path.with_suffix(".json"), perfect)
    assert call(reported, "--no-train")[0] == 0  # the two agree
    code, report = call(reported)
    assert code == 1
    wrong = claims(report, RUN_04)["mel_cnn_nolog_top1"]
    assert (wrong["verdict"], wrong["reported"], wrong["recomputed"]) == ("fail", 1.0, 1.0)
    assert wrong["measured"] == executed[1]["04_mel_cnn"]["metrics"]["mel_cnn_nolog_top1"]["value"]
    assert f"FAILED {RUN_04} mel_cnn_nolog_top1: reported 1.0000, executed again 0." in capsys.readouterr().out


def test_the_committed_results_come_from_their_predictions(tmp_path):
    for place in ("languages-demo", "magnatagatune-demo"):
        (tmp_path / "results" / place).mkdir(parents=True)
        for path in (results.RESULTS / place).glob("0[123]_*"):
            shutil.copy(path, tmp_path / "results" / place)
    code, report = call(tmp_path / "results", "--no-train")
    assert code == 0, failed(report)
    assert claims(report, "languages-demo/01_data_exploration")["test_clips"]["verdict"] == "pass"
    assert claims(report, "languages-demo/02_baseline_svm")["top1"]["verdict"] == "pass"
    assert claims(report, "magnatagatune-demo/03_raw_audio_cnn")["pr_auc"]["verdict"] == "pass"
    final = claims(report, "magnatagatune-demo/03_raw_audio_cnn")["final_epoch_pr_auc"]
    assert (final["verdict"], final["note"]) == ("not checkable", "the predictions that give it are not saved")


def test_tolerances_stand_in_a_file_of_their_own_and_follow_from_seeds_intervals_and_effects():
    known = results.read()
    stated = results.load(known.folder / "tolerances.json")
    runs = {f"{place}/{one.notebook}": one for place, runs in known.runs.items() for one in runs.values()}
    assert stated.keys() == runs.keys()
    seen = set()
    for name, one in runs.items():
        studies, metrics = known.studies_of(one), one.content["metrics"]
        assert stated[name] == tolerances(one, studies)
        for key, (tolerance, origin) in ((key, found.values()) for key, found in stated[name].items()):
            models, kind = one.about(key)
            if kind == "calibration_error":  # has no interval, and moves as the score does
                assert stated[name][key] == stated[name][key.replace(kind, one.task.headline)]
            elif origin == "half of the interval":
                assert tolerance == (metrics[key]["high"] - metrics[key]["low"]) / 2
            elif found := re.fullmatch(r"2 × deviation over 3 seeds, study_(networks|deeper) (.*)", origin):
                assert tolerance == 2 * studies[found[1]].rows[found[2]].score(kind).deviation
                assert found[2] == models[0] or models == ("raw_cnn_256_256",)
            elif origin.startswith("half of the difference"):
                clear = metrics[origin.removeprefix("half of the ")]
                assert tolerance == abs(clear["value"]) / 2
                assert clear["low"] * clear["high"] > 0
            seen.add(origin.split(",")[0].split(":")[0])
            assert "tolerance" not in metrics[key]
        for key, difference in metrics.items():  # a clear effect stays clear
            if key.startswith("difference: ") and difference["low"] * difference["high"] > 0:
                for other in (key, *(f"{model}_{one.task.headline}" for model in one.about(key)[0])):
                    assert stated[name].get(other, {"tolerance": 0})["tolerance"] <= abs(difference["value"]) / 2
    assert len(seen) == 4
    layers = {"first_layer": known.studies["magnatagatune-demo"]["first_layer"]}
    found = tolerances(runs["magnatagatune-demo/03_raw_audio_cnn"], layers)["final_epoch_roc_auc"]["tolerance_from"]
    assert found == "2 × deviation over 5 seeds, study_first_layer 256/256"


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (lambda loss: [*loss, 0.1], "fail", "reported 21 epochs, executed again 20"),
        (lambda loss: [loss[0] * 1.2, *loss[1:]], "fail", "epoch 1 of 20"),
        (lambda loss: [], "fail", "reported 0 epochs, executed again 20"),
        (lambda loss: [loss[0] * 1.02, *loss[1:]], "pass", "epoch 1 of 20"),
    ],
)
def test_another_training_loss_is_found_and_not_called_identical(reported, executed, change, verdict, words):
    def alter(content):
        curves = content["curves"]["mel_cnn"]
        curves["epoch_train_loss"] = change(curves["epoch_train_loss"])

    edit(reported / f"{RUN_04}.json", alter)
    code, report = call(reported, "--notebook", "04")
    assert code == (verdict == "fail")
    loss = claims(report, RUN_04)["mel_cnn: training loss"]
    assert (loss["verdict"], report["sources"][0]["identical"]) == (verdict, False)
    assert words in loss["note"]
    assert failed(report) <= {(RUN_04, "mel_cnn: training loss")}


def test_a_metric_that_comes_no_more_fails(reported, executed):
    executed[1]["05_evaluation"]["metrics"].pop("mel_cnn_top3")
    code, report = call(reported, "--notebook", "05")
    assert code == 1
    assert "does not give it" in claims(report, RUN_05)["mel_cnn_top3"]["note"]
    assert [job.parameters["MODE"] for job in executed[0]] == ["train"]  # alone, it trains


def test_what_cannot_be_executed_fails_and_the_rest_is_judged(reported, executed, monkeypatch, capsys):
    edit(reported / f"{RUN_04}.json", lambda content: content["parameters"].update(EPOCHS="many", GONE=1))
    stub = reproduce.execute

    def execute(jobs, *rest, **named):
        return [run.Outcome(one.job, 1.0, None, "cell 7: <b>OSError</b>") for one in stub(jobs, *rest, **named)]

    monkeypatch.setattr(reproduce, "execute", execute)
    code, report = call(reported)
    assert code == 1
    assert failed(report) == {(RUN_04, "execution"), (RUN_05, "execution")}
    told = capsys.readouterr().out
    assert "EPOCHS: found 'many' (str), expected int" in told
    assert "Unknown parameter GONE" in told
    assert "cell 7: <b>OSError</b>" in told
    assert "&lt;b&gt;OSError" in (reported.parent / "out/reproduction.html").read_text()


def test_a_killed_run_leaves_what_was_found(reported, monkeypatch):
    def execute(*_, **__):
        raise KeyboardInterrupt  # by now all is on the disk, so kill -9 leaves no less

    monkeypatch.setattr(reproduce, "execute", execute)
    with pytest.raises(KeyboardInterrupt):
        call(reported)
    report = json.loads((reported.parent / "out/reproduction.json").read_text())
    assert report["verdict"] == "not finished"
    assert claims(report, RUN_04)["mel_cnn_top1"]["verdict"] == "pass"
    assert "not finished" in (reported.parent / "out/reproduction.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--notebook", "07"], "expected <task>-<data>/NN_name.json"),
        (["--task", "nsynth"], "no results of nsynth, expected <task>-<data>/NN_name.json"),
        (["--results", "somewhere/else"], "name another folder with --results"),
    ],
)
def test_nothing_to_check_is_refused(reported, tmp_path, capsys, arguments, words):
    assert main(["reproduce", "--results", str(reported), "--out", str(tmp_path / "none"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
