"""python -m bundle reproduce: claims against predictions, against training again, tolerances, exit codes, the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bundle import results
from bundle.__main__ import main
from bundle.reproduce import command as reproduce
from bundle.reproduce.tolerance import tolerances
from bundle.run import command as run
from bundle.study import summary
from helpers import metrics
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
PLACE = "languages-languages"  # task and name of the data


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """Results of two notebooks on toy data, as a run writes them; 05 scores what 04 has trained.

    They and the tests run in a copy of the bundle without weights and results, so that those of the checkout take no
    part.
    """
    copy, out = tmp_path_factory.mktemp("bundle"), tmp_path_factory.mktemp("reported")
    for part in ("demo", "helpers", "notebooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "ROOT", copy)
        given = {"MODE": "train", "EPOCHS": 1, "DATA": str(toy / "languages")}
        jobs, problems = run.plan(["languages"], ["04_mel_cnn", "05_evaluation"], given, out)
        assert not problems
        outcomes = run.execute([job for job in jobs if job.out == out / "languages"], 1, 30, ordered=True)
        assert not [outcome.error for outcome in outcomes if outcome.results is None]
        yield out / "languages" / "results"


@pytest.fixture
def reported(trained, tmp_path):
    """A bundle's report/results with those results, a study over two seeds, and a README with their table."""
    folder = tmp_path / "report" / "results"
    shutil.copytree(trained, folder / PLACE)
    arrays = load(folder / PLACE / "04_mel_cnn.npz")
    noise = np.random.default_rng(0).normal(0, 0.02, (2, *arrays["mel_cnn"].shape))
    stacks = {row: (arrays[row] + noise).astype(np.float16) for row in ("mel_cnn", "mel_cnn_nolog")}
    clips = {name: arrays[name] for name in ("names", "groups", "targets")}
    predictions = clips | {f"row {row}": stack for row, stack in stacks.items()}
    rows = summary.score_rows(predictions, TASKS["languages"], "mel_cnn")
    study = {"study": "networks", "question": "?", "task": "languages", "data": "languages", "baseline": "mel_cnn"}
    described = {"valid": {"value": 0.5, "deviation": 0.1}, "settings": {"epochs": 1}, "minutes": 1.0}
    study |= {"scored": "best epoch", "folds": 0, "rows": {row: described | scored for row, scored in rows.items()}}
    summary.write(folder / PLACE, "networks", study, predictions)
    table = results.with_table(f"# Toy\n{results.BEGIN}{results.END}\n", results.readme_table(results.read(folder)))
    (tmp_path / "README.md").write_text(table)
    (folder / "README.md").write_text(results.studies_page(results.read(folder)))
    return folder


@pytest.fixture
def executed(monkeypatch, trained):
    """Let every notebook give the results that training has given, without training; returns the jobs and results."""
    given = {path.stem: json.loads(path.read_text()) for path in trained.glob("*.json")}
    asked = []

    def execute(jobs, *_, **__):
        asked.extend(jobs)
        return [run.Outcome(job, 1.0, given[job.notebook]) for job in jobs]

    monkeypatch.setattr(reproduce, "execute", execute)
    return asked, given


def load(path: Path) -> dict:
    """All arrays of a file."""
    with np.load(path) as stored:
        return dict(stored)


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


def test_honest_results_hold_when_everything_is_executed_again(reported, capfd):
    code, report = call(reported, "--jobs", "1")
    assert code == 0, capfd.readouterr().out
    assert report["verdict"] == "holds"
    assert report["counts"]["fail"] == 0
    told = {one["source"]: one for one in report["sources"]}
    assert told[f"{PLACE}/04_mel_cnn"]["identical"]  # the same machine, threads and versions
    assert told[f"{PLACE}/05_evaluation"]["identical"]
    assert "MODE 'train'" in told[f"{PLACE}/04_mel_cnn"]["told"]
    assert "MODE 'infer'" in told[f"{PLACE}/05_evaluation"]["told"]  # scores what 04 has just trained
    assert "Environment: the same" in told[f"{PLACE}/04_mel_cnn"]["told"]
    figures = claims(report, f"{PLACE}/04_mel_cnn")
    score, loss = figures["mel_cnn_top1"], figures["mel_cnn_plain: training loss"]
    assert score["reported"] == score["recomputed"] == score["measured"]
    assert score["evidence"] == score["repeated"] == loss["repeated"] == "pass"
    assert "to the last bit in all 1 epochs" in loss["note"]
    assert figures["difference: log - no log"]["evidence"] == "pass"
    assert claims(report, f"{PLACE}/05_evaluation")["mel_cnn_calibration_error"]["evidence"] == "pass"
    page = (reported.parent / "out/reproduction.html").read_text()
    assert page.count("<svg") == 6
    assert "<script" not in page
    assert "src=" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(("key", "value"), [("value", 0.99), ("low", 0.0), ("high", 1.0), ("n", 1000), ("chance", 0)])
def test_a_metric_edited_by_hand_is_named(reported, capsys, key, value):
    path = reported / PLACE / "05_evaluation.json"
    edit(path, lambda content: content["metrics"]["mel_cnn_nolog_top3"].update({key: value}))
    code, report = call(reported, "--notebook", "05", "--no-train")
    assert code == 1
    assert (f"{PLACE}/05_evaluation", "mel_cnn_nolog_top3") in failed(report)
    assert failed(report) <= {(f"{PLACE}/05_evaluation", "mel_cnn_nolog_top3"), ("README.md", README_ROW)}
    last = capsys.readouterr().out
    assert f"FAILED {PLACE}/05_evaluation mel_cnn_nolog_top3: {key}: reported {value}, the predictions give" in last


README_ROW = "languages languages mel_cnn_nolog"


def test_an_edited_difference_is_named(reported):
    path = reported / PLACE / "04_mel_cnn.json"
    edit(path, lambda content: content["metrics"]["difference: log - no log"].update(value=0.5))
    code, report = call(reported, "--no-train")
    assert code == 1
    assert failed(report) == {(f"{PLACE}/04_mel_cnn", "difference: log - no log")}
    loss = claims(report, f"{PLACE}/04_mel_cnn")["mel_cnn: training loss"]
    assert (loss["verdict"], loss["note"]) == ("not checkable", "only training again gives it")


def test_predictions_edited_by_hand_do_not_give_the_figures(reported):
    path = reported / PLACE / "04_mel_cnn.npz"
    arrays = load(path)
    arrays["mel_cnn"] = np.eye(6, dtype=np.float32)[arrays["targets"]]
    np.savez(path, **arrays)
    code, report = call(reported, "--no-train")
    assert code == 1
    assert {("mel_cnn_top1"), ("mel_cnn_top3"), ("difference: log - no log")} <= {name for _, name in failed(report)}
    assert "mel_cnn_nolog_top1" not in {name for _, name in failed(report)}


def test_predictions_of_other_clips_are_found(reported):
    path = reported / PLACE / "04_mel_cnn.npz"
    arrays = load(path)
    arrays["targets"] = arrays["mel_cnn"].argmax(axis=1)  # every prediction right
    np.savez(path, **arrays)
    code, report = call(reported, "--no-train")
    claim = claims(report, f"{PLACE}/04_mel_cnn")["clips of the predictions"]
    assert code == 1
    assert claim["verdict"] == "fail"
    assert claim["note"] == "targets: not those of the test split"


def test_results_of_other_data_are_found(reported):
    edit(reported / PLACE / "04_mel_cnn.json", lambda content: content.update(data_digest="0" * 64))
    assert failed(call(reported, "--no-train")[1]) == {(f"{PLACE}/04_mel_cnn", "data digest")}


def test_data_that_are_not_here_are_said_and_do_not_fail(reported):
    for path in reported.glob("*/0*.json"):
        edit(path, lambda content: content["parameters"].update(DATA="/nowhere/at/all"))
    code, report = call(reported, "--no-train")
    claim = claims(report, f"{PLACE}/04_mel_cnn")["clips of the predictions"]
    assert code == 0
    assert claim["verdict"] == "not checkable"
    assert claim["note"] == "the data are not here (/nowhere/at/all)"


def test_figure_and_predictions_edited_alike_are_found_by_training_again(reported, executed, capsys):
    path = reported / PLACE / "04_mel_cnn"
    arrays, content = load(path.with_suffix(".npz")), json.loads(path.with_suffix(".json").read_text())
    perfect = np.eye(6, dtype=np.float32)[arrays["targets"]]
    arrays["mel_cnn"] = perfect
    np.savez(path.with_suffix(".npz"), **arrays)
    clips = arrays["targets"], arrays["groups"]
    scores = metrics.scores(perfect, *clips)
    content["metrics"] |= {f"mel_cnn_{name}": score for name, score in scores.items()}
    for name, other in (
        ("log - no log", "mel_cnn_nolog"), ("batch norm and dropout", "mel_cnn_plain"),
        ("mel_cnn - raw audio", "raw_cnn_256_256"),
    ):  # fmt: skip
        if f"difference: {name}" in content["metrics"]:
            content["metrics"][f"difference: {name}"] = metrics.paired_difference(
                "top1", arrays[other], perfect, *clips
            )
    path.with_suffix(".json").write_text(json.dumps(content))
    assert call(reported, "--no-train")[0] == 0  # the two agree
    code, report = call(reported)
    assert code == 1
    wrong = claims(report, f"{PLACE}/04_mel_cnn")["mel_cnn_top1"]
    assert (wrong["evidence"], wrong["repeated"], wrong["reported"]) == ("pass", "fail", 1.0)
    assert wrong["measured"] == executed[1]["04_mel_cnn"]["metrics"]["mel_cnn_top1"]["value"]
    assert f"FAILED {PLACE}/04_mel_cnn mel_cnn_top1: reported 1.0000, executed again" in capsys.readouterr().out


def test_missing_predictions_are_said(reported, capsys):
    (reported / PLACE / "05_evaluation.npz").unlink()
    code, report = call(reported, "--no-train")
    assert code == 1
    assert failed(report) == {(f"{PLACE}/05_evaluation", "predictions")}
    last = capsys.readouterr().out.splitlines()[-1]
    assert "05_evaluation.npz is missing beside 05_evaluation.json; write both again" in last


@pytest.mark.parametrize("name", ["04_mel_cnn.json", "04_mel_cnn.npz", "study_networks.npz"])
def test_a_damaged_file_is_named_and_the_others_are_judged(reported, name):
    path = reported / PLACE / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, report = call(reported, "--no-train")
    stem = Path(name).stem
    assert code == 1
    assert failed(report) >= {(f"{PLACE}/{stem}", f"{stem}.json")}
    assert "cannot be read as results" in claims(report, f"{PLACE}/{stem}")[f"{stem}.json"]["note"]
    assert claims(report, f"{PLACE}/05_evaluation")["mel_cnn_top1"]["verdict"] == "pass"


def test_a_file_under_another_name_is_refused(reported):
    shutil.copy(reported / PLACE / "05_evaluation.json", reported / PLACE / "03_raw_audio_cnn.json")
    code, report = call(reported, "--no-train")
    note = claims(report, f"{PLACE}/03_raw_audio_cnn")["03_raw_audio_cnn.json"]["note"]
    assert code == 1
    assert "it is of languages-languages/05_evaluation" in note
    (reported / PLACE / "study_networks.json").rename(reported / PLACE / "study_deeper.json")
    note = claims(call(reported, "--no-train")[1], f"{PLACE}/study_deeper")["study_deeper.json"]["note"]
    assert "it is of languages-languages, study networks" in note


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        (lambda rows: rows["mel_cnn"]["metrics"]["top1"].update(value=0.9), "mel_cnn: top1"),
        (lambda rows: rows["mel_cnn"]["metrics"]["top1"].update(deviation=0.5), "mel_cnn: top1"),  # a wide tolerance
        (lambda rows: rows["mel_cnn"]["metrics"]["top1"].update(deviation=None), "mel_cnn: top1"),
        (lambda rows: rows["mel_cnn_nolog"]["difference"].update(low=0.01), "mel_cnn_nolog: difference"),
        (lambda rows: rows["mel_cnn_nolog"].pop("metrics"), "study_networks.json"),
    ],
)
def test_a_study_edited_by_hand_is_named(reported, change, figure):
    edit(reported / PLACE / "study_networks.json", lambda content: change(content["rows"]))
    code, report = call(reported, "--no-train")
    assert code == 1
    assert (f"{PLACE}/study_networks", figure) in failed(report)


def test_a_study_without_its_predictions_fails(reported):
    (reported / PLACE / "study_networks.npz").unlink()
    code, report = call(reported, "--no-train")
    assert code == 1
    assert "study_networks.npz is missing" in claims(report, f"{PLACE}/study_networks")["predictions"]["note"]


def test_a_search_whose_best_is_not_its_best_trial_fails(reported):
    path = reported / PLACE / "tuning_svm.json"
    trials = [{"settings": {"cost": 10.0, "gamma": 0.1}, "score": 0.4}, {"settings": {"cost": 1.0}, "score": 0.6}]
    search = {"budget": 2, "default_score": 0.4, "best_score": 0.6, "best": {"cost": 1.0}, "trials": trials}
    path.write_text(json.dumps(search))
    assert call(reported, "--no-train")[0] == 0
    path.write_text(json.dumps(search | {"best_score": 0.8, "best": {"cost": 2.0}}))
    found = failed(call(reported, "--no-train")[1])
    assert found == {(f"{PLACE}/tuning_svm", "best_score"), (f"{PLACE}/tuning_svm", "best settings")}


def test_a_figure_edited_in_a_readme_is_named(reported, capsys):
    path = reported.parent.parent / "README.md"
    path.write_text(path.read_text().replace("| mel_cnn_nolog | top-1 0.", "| mel_cnn_nolog | top-1 9."))
    beside = reported / "README.md"
    beside.write_text(beside.read_text().replace("| mel_cnn | 0.", "| mel_cnn | 9."))
    code, report = call(reported, "--no-train")
    assert code == 1
    assert failed(report) == {("README.md", README_ROW), ("README.md", "report/results/README.md")}
    assert "top-1 9." in capsys.readouterr().out
    assert call(reported, "--no-train", "--task", "languages")[0] == 1


def test_readmes_without_the_table_fail_and_none_is_not_checkable(reported):
    path = reported.parent.parent / "README.md"
    path.write_text("# Toy\n")
    code, report = call(reported, "--no-train")
    assert code == 1
    assert "cannot be compared with the results" in claims(report, "README.md")["README.md"]["note"]
    path.unlink()
    code, report = call(reported, "--no-train")
    assert code == 0
    assert claims(report, "README.md")["README.md"]["verdict"] == "not checkable"


def test_the_committed_results_come_from_their_predictions(tmp_path):
    for place in ("languages-demo", "magnatagatune-demo"):
        (tmp_path / "results" / place).mkdir(parents=True)
        for path in (ROOT / "report/results" / place).glob("0[123]_*"):
            shutil.copy(path, tmp_path / "results" / place)
    code, report = call(tmp_path / "results", "--no-train")
    assert code == 0, failed(report)
    assert claims(report, "languages-demo/01_data_exploration")["test_clips"]["verdict"] == "pass"
    assert claims(report, "languages-demo/02_baseline_svm")["top1"]["verdict"] == "pass"
    assert claims(report, "magnatagatune-demo/03_raw_audio_cnn")["pr_auc"]["verdict"] == "pass"
    final = claims(report, "magnatagatune-demo/03_raw_audio_cnn")["final_epoch_pr_auc"]
    assert (final["verdict"], final["note"]) == ("not checkable", "the final epoch's predictions are not saved")


def made(models=("mel_cnn", "mel_cnn_nolog"), classes="", **differences) -> results.Run:
    """A notebook's results with intervals of ±0.1, and differences between its models."""
    score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 100}
    figures = {f"{model}_{name}": score for model in models for name in ("top1", "top3")}
    figures["mel_cnn_calibration_error"] = {"value": 0.04, "low": 0.04, "high": 0.04, "n": 100}
    if len(models) == 1:
        figures = {"top1": score, "final_epoch_top1": score}
    for name, value in differences.items():
        figures[f"difference: {name}"] = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100}
    about = {"task": "languages", "data": "demo", "parameters": {"CLASSES": classes}, "curves": {}}
    content = about | {"weights_digest": dict.fromkeys(models, ""), "metrics": figures}
    return results.Run(Path("languages-demo/04_mel_cnn.json"), content)


def allowed(run: results.Run, *studies: tuple, data: str = "demo") -> dict:
    """Tolerances with studies, each (name, deviation over seeds, rows)."""
    found = {}
    for name, deviation, rows in studies:
        score = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 9, "deviation": deviation, "seeds": 3}
        content = {
            "study": name,
            "task": "languages",
            "data": data,
            "rows": {row: {"metrics": {"top1": score}} for row in rows},
        }
        found[name] = results.Study(Path(f"languages-{data}/study_{name}.json"), content)
    return tolerances(run, results.Results(ROOT, {}, {f"languages-{data}": found}, {}).studies_of(run))


def test_a_tolerance_comes_from_the_seeds_else_from_the_interval():
    seeds = ("networks", 0.01, ["mel_cnn"])
    found = allowed(made(), seeds, ("deeper", 0.05, ["mel_cnn"]))
    assert found["mel_cnn_top1"]["tolerance"] == pytest.approx(0.02)
    assert found["mel_cnn_top1"]["tolerance_from"] == "2 × deviation over 3 seeds, study_networks mel_cnn"
    assert found["mel_cnn_top3"] == {"tolerance": pytest.approx(0.1), "tolerance_from": "half of the interval"}
    assert found["mel_cnn_nolog_top1"]["tolerance"] == pytest.approx(0.1)
    assert found["mel_cnn_calibration_error"] == found["mel_cnn_top1"]
    assert allowed(made(), seeds, data="x")["mel_cnn_top1"]["tolerance"] == pytest.approx(0.1)
    assert allowed(made(), ("networks", None, ["mel_cnn"]))["mel_cnn_top1"]["tolerance"] == pytest.approx(0.1)
    assert allowed(made(classes="en,es"), seeds)["mel_cnn_top1"]["tolerance"] == pytest.approx(0.1)


def test_a_row_of_the_first_layer_study_counts_for_its_network():
    both = ("networks", 0.02, ["raw_cnn"]), ("first_layer", 0.03, ["512/256"])
    found = allowed(made(["raw_cnn_512_256"]), *both)
    assert found["top1"]["tolerance"] == found["final_epoch_top1"]["tolerance"] == pytest.approx(0.06)
    assert allowed(made(["raw_cnn_256_256"]), *both)["top1"]["tolerance"] == pytest.approx(0.04)


def test_a_tolerance_is_never_wider_than_half_of_a_clear_effect():
    found = allowed(made(**{"log - no log": 0.12}))
    assert found["mel_cnn_top1"] == {
        "tolerance": pytest.approx(0.06),
        "tolerance_from": "half of the difference: log - no log",
    }
    assert found["mel_cnn_nolog_top1"]["tolerance"] == found["difference: log - no log"]["tolerance"]
    assert found["mel_cnn_top3"]["tolerance"] == pytest.approx(0.1)  # nothing is claimed of it
    assert found["mel_cnn_calibration_error"]["tolerance"] == pytest.approx(0.06)
    assert allowed(made(**{"log - no log": 0.08}))["mel_cnn_top1"]["tolerance"] == pytest.approx(0.1)
    assert allowed(made(**{"mel_cnn_nolog - mel_cnn": -0.14}))["mel_cnn_top1"]["tolerance"] == pytest.approx(0.07)


def test_tolerances_stand_in_a_file_of_their_own_and_are_those_that_count():
    known = results.read()
    stated = results.load(known.folder / "tolerances.json")
    runs = {f"{place}/{one.notebook}": one for place, runs in known.runs.items() for one in runs.values()}
    assert stated.keys() == runs.keys()
    for name, one in runs.items():
        assert stated[name] == tolerances(one, known.studies_of(one))
        assert not [key for key, metric in one.content["metrics"].items() if "tolerance" in metric]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda loss: loss.append(0.1), "reported 2 epochs, measured 1"),
        (lambda loss: loss.__setitem__(0, loss[0] * 1.06), "epoch 1 of 1"),
        (lambda loss: loss.clear(), "reported 0 epochs, measured 1"),
    ],
)
def test_another_training_loss_is_found(reported, executed, change, words):
    path = reported / PLACE / "04_mel_cnn.json"
    edit(path, lambda content: change(content["curves"]["mel_cnn"]["epoch_train_loss"]))
    code, report = call(reported, "--notebook", "04")
    assert code == 1
    assert failed(report) == {(f"{PLACE}/04_mel_cnn", "mel_cnn: training loss")}
    assert words in claims(report, f"{PLACE}/04_mel_cnn")["mel_cnn: training loss"]["note"]


def test_a_training_loss_within_its_tolerance_holds_and_is_not_called_identical(reported, executed):
    def nudge(content):
        loss = content["curves"]["mel_cnn"]["epoch_train_loss"]
        loss[0] *= 1.02

    edit(reported / PLACE / "04_mel_cnn.json", nudge)
    code, report = call(reported, "--notebook", "04")
    assert code == 0
    assert [one["identical"] for one in report["sources"] if one["source"].endswith("04_mel_cnn")] == [False]


def test_a_metric_that_comes_no_more_fails(reported, executed):
    executed[1]["05_evaluation"]["metrics"].pop("mel_cnn_top3")
    code, report = call(reported, "--notebook", "05")
    assert code == 1
    assert "does not give it" in claims(report, f"{PLACE}/05_evaluation")["mel_cnn_top3"]["note"]
    assert [job.parameters["MODE"] for job in executed[0]] == ["train"]  # alone, it trains


def test_what_cannot_be_executed_fails_and_the_rest_is_judged(reported, executed, monkeypatch, capsys):
    edit(reported / PLACE / "04_mel_cnn.json", lambda content: content["parameters"].update(EPOCHS="many", GONE=1))
    stub = reproduce.execute

    def execute(jobs, *rest, **named):
        return [run.Outcome(one.job, 1.0, None, "cell 7: <b>OSError</b>") for one in stub(jobs, *rest, **named)]

    monkeypatch.setattr(reproduce, "execute", execute)
    code, report = call(reported)
    assert code == 1
    assert failed(report) == {(f"{PLACE}/04_mel_cnn", "execution"), (f"{PLACE}/05_evaluation", "execution")}
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
    assert claims(report, f"{PLACE}/04_mel_cnn")["mel_cnn_top1"]["evidence"] == "pass"
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
