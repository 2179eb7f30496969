"""The questions that need many trainings, as data: which rows a study compares, over how many seeds or folds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helpers.augment import Augment
from helpers.models import PUBLISHED_ROWS

NETWORKS = ("raw_cnn", "sample_cnn", "mel_cnn")  # of which a grid may be trained


@dataclass(frozen=True)
class Row:
    """One way to train: a network, and what differs from its usual options and settings."""

    network: str = "mel_cnn"  # as `results.network` knows it
    changes: dict[str, Any] = field(default_factory=dict)  # fields of `training.Settings`, and options of the network
    share: float = 1.0  # of the training clips that are used
    apart: bool = True  # in folds: keep groups apart


@dataclass(frozen=True)
class Study:
    """Rows to compare."""

    question: str
    rows: dict[str, Row]
    baseline: str  # the row that the others are compared with
    tasks: tuple[str, ...] = ("nsynth", "magnatagatune", "languages")  # unless others are named
    seeds: int = 3  # trainings of each row
    folds: int = 0  # 0: the given split; else so many folds, and every clip is tested once per seed
    scored: str = "best epoch"  # by validation; or "final epoch"
    balanced: bool = False  # also score classes alike, and the baseline with thresholds or priors corrected afterwards


RAW_CNN = Row("raw_cnn", {"epochs": 30})
CHANGES = {"mixup": 0.3, "level_db": 10.0, "equaliser_db": 10.0, "band_limit": 0.5, "speed": 0.1, "noise": 0.5}
PUBLISHED = {"dropout": 0.0, "epochs": 30, "learning_rate": 2e-3, "weight_decay": 1e-2}  # no search on the demo data
SPEECH = {"dropout": 0.3, "epochs": 4, "learning_rate": 5e-3, "weight_decay": 1e-2}  # many recordings of few speakers


def speech(apart: bool = True, **changes: Any) -> Row:
    """The mel network on speech."""
    return Row("mel_cnn", SPEECH | changes, apart=apart)


STUDIES = {
    "first_layer": Study(
        "Dieleman & Schrauwen 2014, table 1: how do length and stride of the first layer matter?",
        {f"{n}/{m}": Row("raw_cnn", PUBLISHED | {"length": n, "stride": m}) for n, m in PUBLISHED_ROWS},
        baseline="256/256",
        tasks=("magnatagatune",),
        seeds=5,
        scored="final epoch",
    ),
    "networks": Study(
        "What do the mel front end, the logarithm, and batch normalisation with dropout buy?",
        {"raw_cnn": RAW_CNN} | {name: Row(name) for name in ("mel_cnn", "mel_cnn_nolog", "mel_cnn_plain")},
        baseline="raw_cnn",
    ),
    "deeper": Study(
        "Is it the spectrogram, or would a deeper network on samples do as well?",
        {"raw_cnn": RAW_CNN, "sample_cnn": Row("sample_cnn"), "mel_cnn": Row()},
        baseline="raw_cnn",
        tasks=("magnatagatune",),
    ),
    "wider": Study(
        "Does a network with four times the parameters do better?",
        {"mel_cnn": Row(), "mel_cnn_wide": Row(changes={"width": 32})},
        baseline="mel_cnn",
        tasks=("nsynth",),
    ),
    "augmentation": Study(
        "Which change of the training clips helps on clips that nobody changed?",
        {"none": Row(), "mask": Row(changes={"mask": 0.2})}
        | {
            name.removesuffix("_db").replace("_", " "): Row(changes={"augment": Augment(**{name: value})})
            for name, value in CHANGES.items()
        }
        | {"all but mixup": Row(changes={"mask": 0.2, "augment": Augment(**CHANGES | {"mixup": 0.0})})},
        baseline="none",
    ),
    "imbalance": Study(
        "Do a weighted loss or balanced sampling help the rare classes?",
        {
            "none": Row(),
            "weighted loss": Row(changes={"balance": "loss"}),
            "balanced sampling": Row(changes={"balance": "classes"}),
        },
        baseline="none",
        balanced=True,
    ),
    "size": Study(
        "How does the score grow with the number of training clips?",
        {f"{share:g}": Row(share=share) for share in (0.125, 0.25, 0.5, 1.0)},
        baseline="1",
    ),
    "precision": Study(
        "Does training in bfloat16 change the figures?",
        {"float32": Row(changes={"precision": "32-true"}), "bfloat16": Row()},
        baseline="float32",
        tasks=("languages",),
    ),
    "speakers": Study(
        "The same network, clips dealt at random or speakers kept apart; and what helps with unknown speakers?",
        {
            "random split": speech(apart=False),
            "speakers apart": speech(),
            "band means removed": speech(remove_mean=True),
            "equaliser, band limit": speech(augment=Augment(equaliser_db=10.0, band_limit=0.5)),
            "speakers drawn equally": speech(balance="groups"),
            "all of them": speech(mask=0.2, remove_mean=True, balance="groups", augment=Augment(**CHANGES)),
        },
        baseline="speakers apart",
        tasks=("languages",),
        seeds=1,
        folds=5,
        scored="final epoch",
    ),
}
