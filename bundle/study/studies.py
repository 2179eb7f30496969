"""The questions that need many trainings, as data: which rows a study compares, over how many seeds or folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bundle.study.trainings import Row
from helpers.augment import Augment
from helpers.models import PUBLISHED_ROWS


@dataclass(frozen=True)
class Study:
    """Rows to compare."""

    question: str
    rows: dict[str, Any]  # of `trainings`, or of `grid`: each makes its cells, and reads what they have left
    baseline: str  # the row that the others are compared with; "": the first
    tasks: tuple[str, ...] = ("nsynth", "magnatagatune", "languages")  # unless others are named
    seeds: int = 3  # trainings of each row
    folds: int = 0  # 0: the given split; else so many folds, and every clip is tested once per seed
    scored: str = "best epoch"  # by validation; or "final epoch"
    balanced: bool = False  # also score classes alike, and the baseline with thresholds or priors corrected afterwards


UNTUNED = {"weight_decay": 1e-2}  # where a search on the demo data must not decide
RAW_CNN = Row("raw_cnn", settings={"epochs": 30})
CHANGES = {"mixup": 0.3, "level_db": 10.0, "equaliser_db": 10.0, "band_limit": 0.5, "speed": 0.1, "noise": 0.5}
NOT_MIXED = {name: value for name, value in CHANGES.items() if name != "mixup"}


def changed(options: dict | None = None, **augment: float) -> Row:
    """The mel network with other options and augmentation."""
    return Row(options=options or {}, settings={"augment": Augment(**augment)})


def speech(options: dict | None = None, balance: str = "", apart: bool = True, **augment: float) -> Row:
    """The mel network for many recordings of few speakers: fewer passes."""
    settings = {"epochs": 4, "learning_rate": 5e-3, "augment": Augment(**augment), "balance": balance}
    return Row("mel_cnn", {"dropout": 0.3} | (options or {}), settings | UNTUNED, apart=apart)


STUDIES = {
    "first_layer": Study(
        "Dieleman & Schrauwen 2014, table 1: how do length and stride of the first layer matter?",
        {
            f"{n}/{m}": Row(
                "raw_cnn", {"length": n, "stride": m, "dropout": 0.0}, {"epochs": 30, "learning_rate": 2e-3} | UNTUNED
            )
            for n, m in PUBLISHED_ROWS
        },
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
        {"mel_cnn": Row(), "mel_cnn_wide": Row(options={"width": 32})},
        baseline="mel_cnn",
        tasks=("nsynth",),
    ),
    "augmentation": Study(
        "Which change of the training clips helps on clips that nobody changed?",
        {"none": Row(), "mask": changed({"mask": 0.2})}
        | {name.removesuffix("_db").replace("_", " "): changed(**{name: value}) for name, value in CHANGES.items()}
        | {"all but mixup": changed({"mask": 0.2}, **NOT_MIXED)},
        baseline="none",
    ),
    "imbalance": Study(
        "Do a weighted loss or balanced sampling help the rare classes?",
        {
            "none": Row(),
            "weighted loss": Row(settings={"balance": "loss"}),
            "balanced sampling": Row(settings={"balance": "classes"}),
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
        {"float32": Row(settings={"precision": "32-true"}), "bfloat16": Row()},
        baseline="float32",
        tasks=("languages",),
    ),
    "speakers": Study(
        "The same network, clips dealt at random or speakers kept apart; and what helps with unknown speakers?",
        {
            "random split": speech(apart=False),
            "speakers apart": speech(),
            "band means removed": speech({"remove_mean": True}),
            "equaliser, band limit": speech(equaliser_db=10.0, band_limit=0.5),
            "speakers drawn equally": speech(balance="groups"),
            "all of them": speech({"mask": 0.2, "remove_mean": True}, balance="groups", **CHANGES),
        },
        baseline="speakers apart",
        tasks=("languages",),
        seeds=1,
        folds=5,
        scored="final epoch",
    ),
}
