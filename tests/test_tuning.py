"""The search: same budget, same proposals whatever interrupts it, and committed settings found or refused."""

import inspect
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import models, training, tuning
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
ABOUT = {"task": "nsynth", "data": "demo", "metric": "top1"}


def score(settings):
    """Highest, 1, at cost 50 and gamma 3e-4."""
    return 1 / (1 + abs(math.log10(settings["cost"] / 50)) + abs(math.log10(settings["gamma"] / 3e-4)))


def plain(result):
    return [(trial["settings"], trial["score"]) for trial in result["trials"]]


def test_a_search_keeps_its_budget_starts_with_the_defaults_and_is_quiet(tmp_path, capfd):
    result = tuning.search("svm", score, 9, 3, tmp_path / "new", **ABOUT)
    defaults = {name: span.default for name, span in tuning.SPACES["svm"].items()}
    assert (result["model"], result["budget"], result["seed"], result["metric"]) == ("svm", 9, 3, "top1")
    assert len(result["trials"]) == 9
    assert result["trials"][0]["settings"] == result["default"] == defaults
    assert result["default_score"] == pytest.approx(score(defaults))
    best = max(result["trials"], key=lambda trial: trial["score"])
    assert (result["best"], result["best_score"]) == (best["settings"], best["score"])
    assert result["best_score"] > result["default_score"]
    scores = [trial["score"] for trial in result["trials"]]
    assert (result["spread"]["low"], result["spread"]["high"]) == (min(scores), max(scores))
    mean = sum(scores) / 9
    assert result["spread"]["deviation"] == pytest.approx((sum((s - mean) ** 2 for s in scores) / 9) ** 0.5)
    assert all(trial["seconds"] >= 0 for trial in result["trials"])
    assert json.loads((tmp_path / "new/tuning_svm.json").read_text()) == result
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"tuning_svm.json", "tuning_svm.log"}
    assert capfd.readouterr() == ("", "")


def test_proposals_stay_in_the_space(tmp_path):
    for kind, space in tuning.SPACES.items():
        result = tuning.search(kind, lambda settings: 0.5, 8, 0, tmp_path)
        for trial in result["trials"]:
            assert set(trial["settings"]) == set(space)
            assert all(space[name].low <= value <= space[name].high for name, value in trial["settings"].items())
        assert len({str(trial["settings"]) for trial in result["trials"]}) == 8


def test_an_interrupted_search_ends_like_an_uninterrupted_one(tmp_path):
    whole = tuning.search("svm", score, 10, 0, tmp_path / "whole", **ABOUT)
    calls = []

    def interrupted(settings):
        calls.append(settings)
        if len(calls) in (1, 4, 9):
            raise KeyboardInterrupt
        return score(settings)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            tuning.search("svm", interrupted, 10, 0, tmp_path / "parts", **ABOUT)
        assert not (tmp_path / "parts/tuning_svm.json").exists()
    small = tuning.search("svm", interrupted, 9, 0, tmp_path / "parts", **ABOUT)
    parts = tuning.search("svm", interrupted, 10, 0, tmp_path / "parts", **ABOUT)  # a larger budget continues
    assert plain(parts) == plain(whole)
    assert (
        plain(small) == plain(parts)[:9] == plain(tuning.search("svm", interrupted, 9, 0, tmp_path / "parts", **ABOUT))
    )
    assert len(calls) == 10 + 3  # nothing is tried twice


def test_a_killed_search_continues(tmp_path):
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from helpers import tuning\n"
        "def objective(settings, calls=[]):\n"
        "    calls.append(0)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), 9)\n"
        "    return settings['cost'] / 1000\n"
        "tuning.search('svm', objective, 6, 0, Path(sys.argv[2]), task='nsynth')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    with (tmp_path / "tuning_svm.log").open("ab") as file:
        file.write(b'{"op_code": 6, "wor')  # the line it died in
    calls = []

    def objective(settings):
        calls.append(settings)
        return settings["cost"] / 1000

    result = tuning.search("svm", objective, 6, 0, tmp_path, task="nsynth")
    assert len(calls) == 3
    assert plain(result) == plain(tuning.search("svm", objective, 6, 0, tmp_path / "whole", task="nsynth"))


@pytest.mark.parametrize("change", [{"seed": 1}, {"data_digest": "cd"}])
def test_a_search_about_something_else_starts_anew(tmp_path, change):
    calls = []
    given = {"seed": 0, "data_digest": "ab"}
    for settings in (given, given | change):
        tuning.search("svm", lambda found: calls.append(found) or 0.5, 2, folder=tmp_path, **settings)
    assert len(calls) == 4


def test_a_training_that_diverged_scores_nothing(tmp_path):
    result = tuning.search("svm", lambda settings: math.nan if settings["cost"] == 10 else 0.3, 3, 0, tmp_path)
    assert [trial["score"] for trial in result["trials"]] == [0, 0.3, 0.3]
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("text", ["not a journal\nat all\n", "[]\n{}\n"])
def test_a_damaged_journal_is_refused(tmp_path, text):
    (tmp_path / "tuning_svm.log").write_text(text)
    with pytest.raises(ValueError, match=r"tuning_svm.log: not the journal of a study .* Delete it to search anew"):
        tuning.search("svm", score, 3, 0, tmp_path)


def test_the_search_sees_settings_and_scores_and_no_data(tmp_path):
    seen = []
    tuning.search("svm", lambda *given, **named: seen.append((given, named)) or 0.5, 2, 0, tmp_path)
    assert [([set(settings) for settings in given], named) for given, named in seen] == [([{"cost", "gamma"}], {})] * 2
    assert set(inspect.signature(tuning.search).parameters) == {
        "kind", "objective", "trials", "seed", "folder", "about",
    }  # fmt: skip


def test_network_spaces_name_settings_and_options_that_exist():
    for kind, network in (("raw_cnn", "RawCNN"), ("mel_cnn", "MelCNN")):
        fields = set(training.Settings.__dataclass_fields__)
        task = TASKS["nsynth"]
        options = {name: span.default for name, span in tuning.SPACES[kind].items() if name not in fields}
        assert options
        models.build(models.config_for(task, network, len(task.classes), **options))
    assert len({len(space) for kind, space in tuning.SPACES.items() if kind != "svm"}) == 1


def keep(root, folder, **change):
    result = tuning.search("svm", score, 2, 0, root / folder, **(ABOUT | change))
    return result["best"]


def test_settings_are_taken_from_these_data_then_the_demo_then_the_defaults(tmp_path):
    out, bundle, task = tmp_path / "out", tmp_path / "bundle", TASKS["nsynth"]
    found = tuning.best("svm", task, "mine", [out, bundle])
    assert found["settings"] == {"cost": 10, "gamma": 1e-3}
    assert found["record"] is None
    assert "the defaults; there is no search on 'mine'" in found["source"]

    demo = keep(bundle, "report/results/nsynth-demo", seed_of_test=1)
    found = tuning.best("svm", task, "mine", [out, bundle])
    assert (found["settings"], found["record"]["budget"]) == (demo, 2)
    assert "2 trials on nsynth-demo (seed 0); there is no search on 'mine'" in found["source"]
    assert tuning.best("svm", TASKS["languages"], "mine", [out, bundle])["record"] is None

    keep(bundle, "report/results/nsynth-mine", data="mine")
    found = tuning.best("svm", task, "mine", [out, bundle])
    assert found["record"]["data"] == "mine"
    assert found["source"] == "the best of 2 trials on nsynth-mine (seed 0)"

    keep(out, "results", data="mine", note="new")
    assert tuning.best("svm", task, "mine", [out, bundle])["record"]["note"] == "new"
    assert "note" not in tuning.best("svm", task, "demo", [out, bundle])["record"]  # that of other data is passed over


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:100],
        lambda text: "[]",
        lambda text: "\x00",
        lambda text: text.replace('"model": "svm"', '"model": "mel_cnn"'),
        lambda text: text.replace('"gamma"', '"gama"'),
        lambda text: re.sub(r'("best": {\s*"cost": )[^,]+', r"\1NaN", text),
    ],
)
def test_a_damaged_result_is_refused(tmp_path, change):
    keep(tmp_path, "results")
    path = tmp_path / "results/tuning_svm.json"
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    with pytest.raises(
        ValueError, match=r"tuning_svm.json: not the result of a search for svm \(.* Get the file again"
    ):
        tuning.best("svm", TASKS["nsynth"], "demo", [tmp_path])


def test_nothing_but_a_search_waits_for_optuna():
    program = "import sys; from pathlib import Path; from helpers import tuning, tasks\n"
    program += "tuning.best('svm', tasks.TASKS['nsynth'], 'demo', [Path('nowhere')]); print('optuna' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
