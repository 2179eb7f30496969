"""The SVM baseline: exact and approximated, two classes to fifty tags, stored and loaded, and the leak lesson."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from helpers import features, inference, metrics, svm, weights
from helpers.tasks import TASKS

TASK = replace(TASKS["languages"], classes=("a", "b", "c"))
SETTINGS = {"cost": 10.0, "gamma": 0.05}


@pytest.fixture
def approximated(monkeypatch):
    """Any number of clips is too many for the exact kernel; few steps, for speed."""
    monkeypatch.setattr(svm, "EXACT_UP_TO", 0)
    monkeypatch.setattr(svm, "STEPS", 50_000)


def table(clips=240, classes=3, groups=24, seed=0, voice=0.0, tags=False):
    """Clips whose class moves the first features and whose group moves the others by `voice`."""
    rng = np.random.default_rng(seed)
    member, label = np.arange(clips) % groups, np.arange(clips) % groups % classes
    described = rng.standard_normal((clips, 12))
    described[:, :classes] += 2.5 * np.eye(classes)[label]
    described[:, classes:] += voice * rng.standard_normal((groups, 12 - classes))[member]
    targets = np.column_stack([label == 0, label > 0, member % 2]).astype(np.float32) if tags else label
    return svm.Table(described.astype(np.float32), targets, np.array([f"{seed}-{group}" for group in member]))


def fitted(data, **more):
    return svm.make(**SETTINGS, clips=len(data.features), **more).fit(data.features, data.targets)


@pytest.mark.parametrize("tags", [False, True])
def test_the_approximated_kernel_decides_nearly_as_the_exact_one(tags, monkeypatch):
    train, test = table(tags=tags), table(seed=1, tags=tags)
    exact = svm.decisions(fitted(train), test.features, 3)
    monkeypatch.setattr(svm, "EXACT_UP_TO", 239)
    monkeypatch.setattr(svm, "STEPS", 500_000)
    model = fitted(train)
    assert "nystroem" in model.named_steps
    found = svm.decisions(model, test.features, 3)
    assert np.mean((found > 0) == (exact > 0)) > 0.9
    scores = [metrics.point_scores(values, test.targets) for values in (exact, found)]
    for name, score in scores[0].items():
        assert scores[1][name] == pytest.approx(score, abs=0.05)
        assert score > 0.75


def test_up_to_the_limit_the_kernel_is_exact_and_beyond_it_the_cost_means_the_same():
    assert svm.EXACT_UP_TO == 20_000
    assert "nystroem" not in svm.make(1, 0.1, 20_000).named_steps
    for clips in (20_001, 100_000):
        model = svm.make(4, 0.1, clips)
        assert "nystroem" in model.named_steps
        linear = model[-1].estimator
        assert 1 / (linear.alpha * clips) == pytest.approx(4)
        assert linear.max_iter * clips == pytest.approx(svm.STEPS, rel=0.01)  # nor does the time grow with them


def test_the_seed_decides_the_approximation(approximated, monkeypatch):
    monkeypatch.setattr(svm, "COMPONENTS", 40)
    train = table()
    first, again, other = (fitted(train, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(*(model.decision_function(train.features) for model in (first, again)))
    chosen, others = (set(model["nystroem"].component_indices_) for model in (first, other))
    assert chosen != others
    coefficients = [model[-1].estimators_[0].random_state for model in (first, other)]
    assert coefficients == [3, 4]


@pytest.mark.parametrize("exact", [True, False])
def test_a_rare_class_counts_as_much_as_the_others(exact, request):
    if not exact:
        request.getfixturevalue("approximated")
    train, test = table(clips=600), table(seed=1)
    kept = (train.targets > 0) | (np.arange(600) < 60)  # a tenth of class 0
    model = svm.make(0.3, 0.05, kept.sum()).fit(train.features[kept], train.targets[kept])
    predicted = svm.decisions(model, test.features, 3).argmax(axis=1)
    assert np.mean(predicted[test.targets == 0] == 0) > 0.7


def test_two_classes_get_two_columns_and_an_absent_class_comes_last():
    train, test = table(), table(seed=1)
    two = train.targets < 2
    model = fitted(svm.Table(*(part[two] for part in train)))
    values = svm.decisions(model, test.features, 2)
    np.testing.assert_array_equal(values[:, 0], -values[:, 1])
    assert np.mean(values.argmax(axis=1)[test.targets < 2] == test.targets[test.targets < 2]) > 0.8
    last = svm.Table(*(part[train.targets != 1] for part in train))
    third = train.targets[train.targets != 1] // 2
    model = fitted(last._replace(targets=third * 2 + (np.arange(len(third)) % 5 == 0) * 3))
    values = svm.decisions(model, test.features, 6)
    assert set(values.argmax(axis=1)) <= {0, 2, 3, 5}
    assert (values[:, [1, 4]] < values[:, [0, 2, 3, 5]].min()).all()


@pytest.mark.parametrize(("task", "exact"), [("languages", True), ("magnatagatune", False)])
def test_a_stored_svm_predicts_the_same_waveforms_the_same(task, exact, load_toy, tmp_path, request):
    if not exact:
        request.getfixturevalue("approximated")
    data = load_toy(task)
    train = svm.describe(data.train, data.task)
    model = svm.make(10, 1e-3, len(data.train)).fit(train.features, train.targets)
    info = {"task": task, "classes": data.classes, "data": "toy", "data_digest": "ab", "seed": 0, "scores": {}}
    machine = svm.as_arrays(model, len(data.classes))
    weights.save(tmp_path, "svm", machine, info)
    found, _ = weights.load(tmp_path, "svm", data.task, data.classes)
    few = data.test.select(np.arange(4))
    before, after = (inference.predict_pack(one, few, data.task) for one in (machine, found))
    np.testing.assert_array_equal(before, after)
    described = svm.describe(few, data.task).features
    wanted = svm.decisions(model, described, len(data.classes))
    np.testing.assert_allclose(found.decision_function(described), wanted, atol=1e-4)
    order = wanted.argsort(axis=1)
    np.testing.assert_array_equal(np.take_along_axis(after, order, axis=1), np.sort(after, axis=1))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["two classes", "a class is missing", "tags", "a tag that all have"])
def test_arrays_decide_as_the_fitted_machine(kind, exact, request):
    if not exact:
        request.getfixturevalue("approximated")
    train, test = table(90), table(30, seed=1)
    keep, targets, classes = slice(None), train.targets, 3
    if kind == "two classes":
        keep, classes = targets != 2, 2
    elif kind == "a class is missing":
        targets, classes = targets + (targets > 0), 4
    elif "tag" in kind:
        targets = np.eye(3)[targets]
        targets[:, 1] = 1 if "all" in kind else targets[:, 1]
    model = svm.make(**SETTINGS, clips=len(train.features[keep]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the tag that all have
        model.fit(train.features[keep], targets[keep])
    found = svm.as_arrays(model, classes).decision_function(test.features)
    wanted = svm.decisions(model, test.features, classes)
    present = [place for place in range(classes) if not (kind == "a class is missing" and place == 1)]
    np.testing.assert_allclose(found[:, present], wanted[:, present], atol=1e-4)
    assert (found[:, present] > found.min() - 1).all()
    if len(present) < classes:
        assert (found[:, 1] < found[:, present].min()).all()


def test_clips_are_described_in_order_and_in_part_on_request(load_toy, monkeypatch):
    data = load_toy("languages")
    whole = svm.describe(data.train, data.task)
    assert len(whole.features) == len(whole.targets) == len(whole.groups) == len(data.train) > svm.BATCH
    single = features.pooled(data.train.take([70]), data.task)
    np.testing.assert_allclose(whole.features[70], single[0], rtol=1e-4, atol=1e-4)
    some = svm.describe(data.train, data.task, limit=10)
    assert some.features.shape == (10, whole.features.shape[1])
    place = [int(np.abs(whole.features - row).sum(axis=1).argmin()) for row in some.features]
    assert place == sorted(set(place))
    assert place != list(range(10))
    np.testing.assert_array_equal(some.groups, whole.groups[place])
    np.testing.assert_array_equal(some.targets, whole.targets[place])


def test_the_validation_score_is_the_headline_metric_of_the_validation_clips():
    train, valid = table(), table(seed=1)
    wrong = valid._replace(targets=(valid.targets + 1) % 3)
    assert svm.validation_score(SETTINGS, train, valid, TASK) > 0.75
    assert svm.validation_score(SETTINGS, train, wrong, TASK) < 0.25
    lesson = svm.leak_lesson(SETTINGS, train, table(seed=2), valid, TASK)
    expected = svm.validation_score(SETTINGS, train, valid, TASK)
    assert lesson["groups apart"]["value"] == pytest.approx(expected, abs=1e-9)  # the given split as it is


@pytest.mark.parametrize("tags", [False, True])
def test_a_random_split_flatters_where_groups_are_easy_to_tell(tags):
    task = replace(TASK, multi_label=tags, headline="roc_auc" if tags else "top1")
    parts = [table(clips, voice=4, seed=seed, tags=tags) for seed, clips in ((0, 240), (1, 96), (2, 120))]
    lesson = svm.leak_lesson({"cost": 10, "gamma": 0.02}, *parts, task)
    apart, mixed = lesson["groups apart"], lesson["random split"]
    assert (apart["shared"], apart["n"], mixed["n"]) == (0, 120, 120)
    assert mixed["shared"] > 0.9
    assert mixed["value"] > apart["high"]
    assert apart["low"] <= apart["value"] <= apart["high"]


def test_random_split_trains_and_tests_on_different_clips(monkeypatch):
    seen = []
    make = svm.make

    def spy(**given):
        model = make(**given)
        fit = model.fit
        model.fit = lambda described, targets: seen.append(described) or fit(described, targets)
        return model

    monkeypatch.setattr(svm, "make", spy)
    monkeypatch.setattr(svm, "decisions", lambda model, found, classes: seen.append(found) or found[:, :3])
    monkeypatch.setattr(svm, "LESSON_CLIPS", 100)
    svm.leak_lesson(SETTINGS, table(240), table(96, seed=1), table(150, seed=2), TASK)
    assert [len(part) for part in seen] == [100, 100, 100, 100]
    for train, test in (seen[:2], seen[2:]):
        assert not {row.tobytes() for row in train} & {row.tobytes() for row in test}


def test_without_groups_there_is_no_lesson():
    unknown = [part._replace(groups=np.full(240, "")) for part in (table(), table(seed=1), table(seed=2))]
    assert svm.leak_lesson(SETTINGS, *unknown, TASK) == {}
