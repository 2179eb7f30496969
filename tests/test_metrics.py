"""Scores agree with scikit-learn, ties do not flatter, and intervals say how sure a figure is."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from bundle.study.summary import adjust, tuned_thresholds
from helpers import metrics


def single(clips=200, classes=6, seed=0, skill=1.0):
    """Untied probabilities (clips, classes) that know a little, and true classes (clips,)."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(clips) % classes)
    logits = rng.standard_normal((clips, classes)) + skill * np.eye(classes)[targets]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), targets


def tags(clips=200, classes=4, seed=0, steps=None):
    """Probabilities and tags, each (clips, classes); `steps` rounds the probabilities so that many are equal."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((clips, classes)) < np.linspace(0.15, 0.5, classes)).astype(np.float32)
    values = 1 / (1 + np.exp(-(rng.standard_normal((clips, classes)) + targets)))
    return (np.round(values * steps) / steps if steps else values), targets


def of_one(name, probabilities, targets):
    """A score without its interval."""
    once = np.ones((1, len(targets)))
    return metrics.weighted(probabilities, targets, once, name in metrics.BALANCED)[name][0]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_top_k_equals_scikit_learns_where_nothing_is_tied(k, skill):
    probabilities, targets = single(skill=skill)
    expected = top_k_accuracy_score(targets, probabilities, k=k, labels=np.arange(6))
    assert metrics.top_k(probabilities, targets, k).mean() == pytest.approx(expected, abs=1e-12)


def test_a_tie_with_the_true_class_counts_against_the_model():
    probabilities = np.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.5, 0.25, 0.25]])
    assert metrics.top_k(probabilities, np.array([0, 0, 0]), 1).tolist() == [False, False, True]
    assert metrics.top_k(probabilities, np.array([0, 1, 1]), 2).tolist() == [True, True, False]
    assert not metrics.top_k(np.full((4, 4), 0.25), np.arange(4), 3).any()  # the same of every class
    assert not metrics.top_k(np.full((3, 4), np.nan), np.array([0, 1, 3]), 1).any()


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("count", [1, 4])
def test_areas_equal_scikit_learns_also_under_weights(steps, count):
    probabilities, targets = (array[:, :count] for array in tags(steps=steps))
    roc, precision = metrics.per_tag(probabilities, targets)
    for tag in range(count):
        pair = targets[:, tag], probabilities[:, tag]
        assert roc[tag] == pytest.approx(roc_auc_score(*pair))
        assert precision[tag] == pytest.approx(average_precision_score(*pair))
    found = metrics.point_scores(probabilities, targets)
    assert found == pytest.approx({"roc_auc": roc.mean(), "pr_auc": precision.mean()})
    weights = np.stack([np.ones(200), np.random.default_rng(1).integers(0, 4, 200)]).astype(float)
    roc, precision = metrics.weighted_areas(probabilities, targets, weights)
    for row, weight in enumerate(weights):
        options = {"average": "macro", "sample_weight": weight}
        assert roc[row] == pytest.approx(roc_auc_score(targets, probabilities, **options))
        assert precision[row] == pytest.approx(average_precision_score(targets, probabilities, **options))


@pytest.mark.parametrize("value", [0, 1])
def test_a_tag_of_one_class_is_marked_and_left_out(value):
    probabilities, targets = tags()
    with_empty = targets.copy()
    with_empty[:, 2] = value
    assert metrics.scorable(with_empty).tolist() == [True, True, False, True]
    assert np.isnan(metrics.per_tag(probabilities, with_empty)).tolist() == [[False, False, True, False]] * 2
    kept = [0, 1, 3]
    expected = metrics.scores(probabilities[:, kept], targets[:, kept])
    assert metrics.scores(probabilities, with_empty) == expected


def test_confusion_counts_true_classes_in_rows_also_those_without_clips():
    probabilities = np.eye(4)[[0, 1, 1, 3, 3]]
    counts = metrics.confusion(probabilities, np.array([0, 1, 0, 3, 1]))
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(("classes", "names"), [(2, {"top1"}), (3, {"top1"}), (4, {"top1", "top3"})])
def test_top_3_is_left_out_where_it_says_nothing(classes, names):
    assert metrics.point_scores(*single(classes=classes)).keys() == names


@pytest.mark.parametrize("make", [single, tags])
def test_intervals_contain_the_value_and_narrow_with_the_number_of_clips(make):
    few, many = (metrics.scores(*make(clips, seed=1)) for clips in (60, 1_000))
    for name in few:
        assert few[name]["low"] < few[name]["value"] < few[name]["high"]
        assert many[name]["low"] < many[name]["value"] < many[name]["high"]
        assert many[name]["high"] - many[name]["low"] < 0.5 * (few[name]["high"] - few[name]["low"])
        assert (few[name]["n"], many[name]["n"]) == (60, 1_000)


def test_the_interval_of_a_share_is_as_wide_as_the_binomials():
    clips = 400
    probabilities, targets = single(clips, skill=1.5)
    score = metrics.scores(probabilities, targets)["top1"]
    deviation = np.sqrt(score["value"] * (1 - score["value"]) / clips)
    assert score["high"] - score["low"] == pytest.approx(2 * 1.96 * deviation, rel=0.12)
    biased = metrics.interval(0.5, np.linspace(0.6, 0.8, 101), clips)
    assert (biased["low"], biased["high"]) == pytest.approx((0.405, 0.595))


@pytest.mark.parametrize("make", [single, tags])
def test_drawing_groups_is_wider_than_drawing_clips_where_a_group_repeats_itself(make):
    probabilities, targets = (np.repeat(array, 8, axis=0) for array in make(60))
    groups = [f"speaker {clip // 8}" for clip in range(480)]
    by_clip, by_group = metrics.scores(probabilities, targets), metrics.scores(probabilities, targets, groups)
    for name in by_clip:
        assert by_group[name]["value"] == by_clip[name]["value"]
        width = [score[name]["high"] - score[name]["low"] for score in (by_clip, by_group)]
        assert width[1] > 1.8 * width[0]  # sqrt(8) = 2.8 in the long run


def test_clips_of_unknown_group_are_groups_of_their_own():
    probabilities, targets = single()
    alone = metrics.scores(probabilities, targets, [""] * 200)["top1"]
    as_one = metrics.scores(probabilities, targets, ["x"] * 200)["top1"]
    by_clip = metrics.scores(probabilities, targets)["top1"]
    assert as_one["high"] - as_one["low"] == pytest.approx(0)
    assert alone["high"] - alone["low"] == pytest.approx(by_clip["high"] - by_clip["low"], rel=0.15)


def test_intervals_repeat_with_the_seed_and_the_global_random_state_is_left_alone():
    data = tags(80)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert metrics.scores(*data, seed=1) == metrics.scores(*data, seed=1) != metrics.scores(*data, seed=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_perfect_model_scores_one_without_doubt():
    targets = np.arange(40) % 5
    assert metrics.scores(np.eye(5)[targets], targets)["top1"] == pytest.approx(
        {"value": 1.0, "low": 1.0, "high": 1.0, "n": 40, "chance": 0.2}
    )


def test_chance_is_what_a_model_without_ears_gets():
    one = metrics.scores(*single(6_000, skill=0.0))
    assert (one["top1"]["chance"], one["top3"]["chance"]) == pytest.approx((1 / 6, 3 / 6))
    many = tags()
    many = metrics.scores(np.random.default_rng(3).random(many[1].shape), many[1])
    for score in (*one.values(), *many.values()):
        assert score["value"] == pytest.approx(score["chance"], abs=0.06)


def test_a_score_in_words_gives_value_interval_number_and_chance():
    score = {"value": 0.51234, "low": 0.4, "high": 0.6, "n": 125, "chance": 1 / 11}
    assert metrics.in_words(score) == "0.512 (0.400 to 0.600), n 125, chance 0.091"


def test_a_better_model_differs_by_the_difference_of_the_scores_and_pairing_narrows_it():
    (worse, targets), (better, _) = single(skill=1.0), single(skill=1.6)  # the same noise
    found = metrics.paired_difference("top1", worse, better, targets)
    assert found["value"] == pytest.approx(of_one("top1", better, targets) - of_one("top1", worse, targets))
    assert 0 < found["low"] < found["value"] < found["high"]
    assert metrics.paired_difference("top1", worse[None], better[None], targets) == found | {"seeds": 1}
    turned = metrics.paired_difference("top1", better, worse, targets)
    assert (turned["low"], turned["value"]) == pytest.approx((-found["high"], -found["value"]))
    alone = [metrics.scores(model, targets)["top1"] for model in (worse, better)]
    assert found["high"] - found["low"] < sum(score["high"] - score["low"] for score in alone) / 2


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_of_a_model_that_knows_its_doubts_is_near_zero(multi_label):
    rng = np.random.default_rng(0)
    probabilities = rng.random((6_000, 3)) if multi_label else rng.dirichlet(np.ones(3), 20_000)
    draw = rng.random(probabilities.shape if multi_label else (len(probabilities), 1))
    targets = (draw < probabilities) if multi_label else (draw > probabilities.cumsum(axis=1)).sum(axis=1)
    table, error = metrics.calibration(probabilities, targets.astype(np.float32 if multi_label else np.int64))
    filled = table[table[:, 2] > 200]
    assert len(filled) >= 6
    assert error < 0.015
    np.testing.assert_allclose(filled[:, 0], filled[:, 1], atol=0.05)


def test_boasts_and_needless_doubts_do_not_cancel():
    probabilities = np.repeat([[0.95, 0.05], [0.65, 0.35]], 100, axis=0)
    table, error = metrics.calibration(probabilities, np.array([0] * 60 + [1] * 40 + [0] * 100))
    assert error == pytest.approx(0.35)
    assert table[9].tolist() == pytest.approx([0.95, 0.6, 100])
    assert table[6].tolist() == pytest.approx([0.65, 1.0, 100])
    assert table[:, 2].sum() == 200
    assert np.isnan(table[:6, :2]).all()


def test_tags_that_are_all_or_nothing_have_no_scores_and_no_warning(recwarn):
    assert metrics.scores(np.full((2, 3), 0.5), np.array([[1, 0, 1], [1, 0, 1]])) == {}
    assert not recwarn.list


def rare(clips=300, seed=0):
    """Probabilities (clips, 3) of a model that knows a little about unequal classes, and the classes (clips,)."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, clips, p=[0.7, 0.2, 0.1])
    logits = rng.standard_normal((clips, 3)) + 1.2 * np.eye(3)[targets] + np.log([0.7, 0.2, 0.1])
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("make", [rare, tags])
def test_balanced_scores_equal_scikit_learns(make):
    probabilities, targets = make()
    found, recalls = metrics.balanced_scores(probabilities, targets)
    said = probabilities.argmax(axis=1) if make is rare else probabilities >= 0.5
    name = "balanced_accuracy" if make is rare else "mean_recall"
    assert list(found) == [name, "macro_f1"]
    assert found[name]["value"] == pytest.approx(recall_score(targets, said, average="macro"))
    assert found["macro_f1"]["value"] == pytest.approx(f1_score(targets, said, average="macro"))
    np.testing.assert_allclose(recalls, recall_score(targets, said, average=None))
    for score in found.values():
        assert score["low"] < score["value"] < score["high"]
        assert score["n"] == len(targets)


@pytest.mark.parametrize("make", [rare, tags])
def test_balanced_scores_under_weights_equal_those_of_clips_drawn_again(make):
    probabilities, targets = make(40)
    times = np.random.default_rng(1).integers(0, 3, 40)
    times[(targets == 2) if targets.ndim == 1 else targets[:, 0] > 0] = 0  # a class that is not drawn
    weighted = metrics.weighted(probabilities, targets, times[None].astype(float), balanced=True)
    again = metrics.balanced_scores(np.repeat(probabilities, times, axis=0), np.repeat(targets, times, axis=0))[0]
    assert {name: value[0] for name, value in weighted.items()} == pytest.approx(
        {name: score["value"] for name, score in again.items()}
    )


def test_a_class_without_clips_has_no_recall_and_is_left_out():
    found, recalls = metrics.balanced_scores(np.eye(4)[[0, 0, 2, 3]], np.array([0, 0, 2, 2]))
    assert np.isnan(recalls).tolist() == [False, True, False, True]
    assert recalls[[0, 2]].tolist() == [1, 0.5]
    assert (found["balanced_accuracy"]["value"], found["balanced_accuracy"]["chance"]) == (0.75, 0.5)
    assert found["macro_f1"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    found, recalls = metrics.balanced_scores(np.full((3, 2), 0.7), np.zeros((3, 2)))
    assert (found, np.isnan(recalls).all()) == ({}, True)


@pytest.mark.parametrize("make", [rare, tags])
def test_the_chance_of_balanced_scores_is_what_the_same_predictions_get_at_random(make):
    probabilities, targets = make(400)
    found, _ = metrics.balanced_scores(probabilities, targets)
    rng = np.random.default_rng(0)
    dealt = [rng.permutation(probabilities) for _ in range(40)]
    for name, score in found.items():
        assert np.mean([of_one(name, one, targets) for one in dealt]) == pytest.approx(score["chance"], abs=0.01)
        assert score["value"] > score["chance"] + 0.1


@pytest.mark.parametrize("steps", [None, 5])
def test_no_other_thresholds_give_a_higher_f1_than_the_tuned_ones(steps):
    probabilities, targets = tags(120, steps=steps)
    targets[:, 1] = 0
    thresholds = tuned_thresholds(probabilities, targets)
    assert thresholds[1] == 0.5
    for tag in (0, 2, 3):
        tried = [f1_score(targets[:, tag], probabilities[:, tag] >= step) for step in np.linspace(0, 1, 21)]
        assert f1_score(targets[:, tag], probabilities[:, tag] >= thresholds[tag]) >= max(tried)


def test_adjusted_probabilities_are_those_of_equal_classes():
    adjusted = adjust(np.array([[0.7, 0.2, 0.1], [0.35, 0.4, 0.25]]), np.array([70, 20, 10]))
    np.testing.assert_allclose(adjusted, [[1 / 3] * 3, np.array([0.005, 0.02, 0.025]) / 0.05])
    assert np.isfinite(adjust(adjusted, np.array([5, 0, 3]))).all()


def seeds(make, count=4, clips=80, spread=0.6, **options):
    """Predictions of models that differ by their seed, (seeds, clips, classes), and the targets."""
    probabilities, targets = make(clips, **options)
    rng = np.random.default_rng(9)
    noise = spread * rng.standard_normal((count, *probabilities.shape))
    return 1 / (1 + np.exp(-(np.log(probabilities / (1 - probabilities)) + noise))), targets


NAMED = [(single, "top1"), (single, "balanced_accuracy"), (tags, "roc_auc"), (tags, "pr_auc"), (tags, "macro_f1")]


@pytest.mark.parametrize(("make", "name"), NAMED)
def test_the_score_over_seeds_is_their_mean_with_their_deviation(make, name):
    models, targets = seeds(make)
    found = metrics.seed_scores(name, models, targets)
    each = [of_one(name, model, targets) for model in models]
    assert found["value"] == pytest.approx(np.mean(each))
    assert found["deviation"] == pytest.approx(np.std(each, ddof=1))
    assert (found["n"], found["seeds"]) == (80, 4)
    assert found["chance"] < found["low"] < found["value"] < found["high"]


@pytest.mark.parametrize(("make", "name"), NAMED)
def test_the_interval_over_seeds_and_groups_is_that_of_copied_clips(make, name):
    models, targets = seeds(make, 3, 60)
    groups = [f"group {clip // 3}" if clip < 54 else "" for clip in range(60)]
    member = np.array([clip // 3 if clip < 54 else clip for clip in range(60)])
    kinds, rng, drawn = np.unique(member), np.random.default_rng(5), []
    for _ in range(400):
        chosen = np.concatenate([np.flatnonzero(member == kind) for kind in rng.choice(kinds, len(kinds))])
        picked = models[rng.choice(3, 3)][:, chosen]
        drawn.append(np.mean([of_one(name, model, targets[chosen]) for model in picked]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = metrics.seed_scores(name, models, targets, groups)
    assert found["high"] - found["low"] == pytest.approx(high - low, rel=0.2)


def test_one_seed_has_no_deviation_and_the_interval_of_its_clips():
    probabilities, targets = single()
    found = metrics.seed_scores("top1", probabilities[None], targets)
    assert np.isnan(found["deviation"])
    alone = metrics.scores(probabilities, targets)["top1"]
    assert {key: found[key] for key in alone} == pytest.approx(alone)


def test_seeds_that_lie_apart_widen_the_interval():
    models, targets = seeds(single, spread=0.0)
    assert metrics.seed_scores("top1", models, targets)["deviation"] == pytest.approx(0, abs=1e-12)
    apart = models.copy()
    apart[:2] = np.eye(6)[targets]  # two seeds are perfect
    apart[2:] = 1 - np.eye(6)[targets]
    narrow, wide = (metrics.seed_scores("top1", m, targets) for m in (models, apart))
    assert wide["value"] == 0.5
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize(("make", "name"), NAMED)
def test_the_difference_over_seeds_is_the_mean_of_the_pairs(make, name):
    (worse, targets), (better, _) = seeds(make, seed=1), seeds(make, seed=1, spread=0.0)
    found = metrics.paired_difference(name, worse, better, targets)
    pairs = [of_one(name, b, targets) - of_one(name, a, targets) for a, b in zip(worse, better, strict=True)]
    assert found["value"] == pytest.approx(np.mean(pairs))
    assert found["low"] < found["value"] < found["high"]
    assert (found["n"], found["seeds"]) == (80, 4)
    turned = metrics.paired_difference(name, better, worse, targets)
    assert (turned["value"], turned["low"]) == pytest.approx((-found["value"], -found["high"]))
    same = metrics.paired_difference(name, worse, worse, targets)
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_the_difference_over_seeds_is_paired_by_seed():
    rng = np.random.default_rng(0)
    targets = np.arange(100) % 4
    skill = rng.permutation(np.linspace(0.2, 0.9, 6))  # the seeds differ much, both models alike
    right = rng.random(100)
    first, second = (
        np.stack([np.where((right < s + more)[:, None], np.eye(4)[targets], 0.25) for s in skill]) for more in (0, 0.05)
    )
    found = metrics.paired_difference("top1", first, second, targets)
    assert found["low"] > 0
    single_seed = metrics.paired_difference("top1", first[0], second[0], targets)
    assert found["high"] - found["low"] < 1.5 * (single_seed["high"] - single_seed["low"])


@pytest.mark.parametrize("shapes", [((3, 8, 4), (2, 8, 4)), ((1, 8, 4), (3, 8, 4)), ((8,), (8,))])
def test_models_of_different_seeds_are_not_compared(shapes):
    first, second = (np.full(shape, 0.25) for shape in shapes)
    with pytest.raises(ValueError, match=r"first and second: found shapes .* expected \(clips, classes\) or \(seeds"):
        metrics.paired_difference("top1", first, second, np.zeros(8, int))


def test_intervals_do_not_depend_on_how_many_resamples_are_held_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    values, groups = rng.random((60, 5)), [f"group {place // 3}" for place in range(60)]
    for targets in (rng.integers(0, 5, 60), (rng.random((60, 5)) < 0.4).astype(np.float32)):
        with monkeypatch.context() as patch:
            first = metrics.scores(values, targets, groups)
            patch.setattr("helpers.metrics.BLOCK", 60 * 7)
            second = metrics.scores(values, targets, groups)
        assert {name: pytest.approx(score) for name, score in first.items()} == second
