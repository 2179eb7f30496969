"""The questions that need many trainings, as data: which rows a study compares, over how many seeds or folds."""

from __future__ import annotations

from dataclasses import dataclass, field

from helpers.augment import Augment
from helpers.models import PUBLISHED_ROWS

EPOCHS = 20  # of networks with batch normalisation, as in notebook 04; with 12 they are far from done


@dataclass(frozen=True)
class Row:
    """One way to train: a network, its options, and what differs from the usual settings.

    Attributes
    ----------
    kind : str
        Of the network, see `models.KINDS`.
    options : dict
        Of the network.
    settings : dict
        Of `training.Settings`; `epochs` among them.
    share : float
        Of the training clips that are used.
    apart : bool
        In folds: keep groups apart.
    """

    kind: str = "MelCNN"
    options: dict = field(default_factory=dict)
    settings: dict = field(default_factory=lambda: {"epochs": EPOCHS})
    share: float = 1.0
    apart: bool = True


@dataclass(frozen=True)
class Study:
    """Rows to compare.

    Attributes
    ----------
    question : str
    rows : dict of str to Row
    baseline : str
        The row that the others are compared with.
    tasks : tuple of str
        That it is run for unless others are named.
    seeds : int
        Trainings of each row.
    folds : int
        0: the given split; else so many folds, and every clip is tested once per seed.
    final : bool
        Score the final epoch, else the one with the best validation score.
    balanced : bool
        Also score how the classes fare on average, and the baseline with thresholds or priors corrected afterwards.
    """

    question: str
    rows: dict[str, Row]
    baseline: str
    tasks: tuple[str, ...] = ("nsynth", "magnatagatune", "languages")
    seeds: int = 3
    folds: int = 0
    final: bool = False
    balanced: bool = False


UNTUNED = {"weight_decay": 1e-2}  # where a search on the demo data must not decide
RAW_CNN = Row("RawCNN", {"length": 256, "stride": 256}, {"epochs": 30})
CHANGES = {
    "mask": ({"mask": 0.2}, {}),
    "mixup": ({}, {"mixup": 0.3}),
    "level": ({}, {"level_db": 10.0}),
    "equaliser": ({}, {"equaliser_db": 10.0}),
    "band limit": ({}, {"band_limit": 0.5}),
    "speed": ({}, {"speed": 0.1}),
    "noise": ({}, {"noise": 0.5}),
}
EVERYTHING = {name: value for _, changes in CHANGES.values() for name, value in changes.items() if name != "mixup"}


def changed(options: dict, augment: dict) -> Row:
    """The mel network with other options and augmentation."""
    return Row("MelCNN", options, {"epochs": EPOCHS, "augment": Augment(**augment)})


def speech(options: dict | None = None, augment: dict | None = None, balance: str = "", apart: bool = True) -> Row:
    """The mel network for many recordings of few speakers: fewer passes."""
    settings = {"epochs": 4, "learning_rate": 5e-3, "augment": Augment(**augment or {}), "balance": balance}
    return Row("MelCNN", {"dropout": 0.3} | (options or {}), settings | UNTUNED, apart=apart)


STUDIES = {
    "first_layer": Study(
        "Dieleman & Schrauwen 2014, table 1: how do length and stride of the first layer matter?",
        {
            f"{n}/{m}": Row(
                "RawCNN", {"length": n, "stride": m, "dropout": 0.0}, {"epochs": 30, "learning_rate": 2e-3} | UNTUNED
            )
            for n, m in PUBLISHED_ROWS
        },
        baseline="256/256",
        tasks=("magnatagatune",),
        seeds=5,
        final=True,
    ),
    "networks": Study(
        "What do the mel front end, the logarithm, and batch normalisation with dropout buy?",
        {
            "raw_cnn": RAW_CNN,
            "mel_cnn": Row(),
            "mel_cnn_nolog": Row(options={"log": False}),
            "mel_cnn_plain": Row(options={"batch_norm": False, "dropout": 0.0}),
        },
        baseline="raw_cnn",
    ),
    "deeper": Study(
        "Is it the spectrogram, or would a deeper network on samples do as well?",
        {
            "raw_cnn": RAW_CNN,
            "sample_cnn": Row("SampleCNN"),
            "mel_cnn": Row(),
        },
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
        {"none": Row()}
        | {name: changed(options, augment) for name, (options, augment) in CHANGES.items()}
        | {"all but mixup": changed({"mask": 0.2}, EVERYTHING)},
        baseline="none",
    ),
    "imbalance": Study(
        "Do a weighted loss or balanced sampling help the rare classes?",
        {
            "none": Row(),
            "weighted loss": Row(settings={"epochs": EPOCHS, "balance": "loss"}),
            "balanced sampling": Row(settings={"epochs": EPOCHS, "balance": "classes"}),
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
        {"float32": Row(settings={"epochs": EPOCHS, "precision": "32-true"}), "bfloat16": Row()},
        baseline="float32",
        tasks=("languages",),
    ),
    "speakers": Study(
        "The same network, clips dealt at random or speakers kept apart; and what helps with unknown speakers?",
        {
            "random split": speech(apart=False),
            "speakers apart": speech(),
            "band means removed": speech({"remove_mean": True}),
            "equaliser, band limit": speech(augment={"equaliser_db": 10.0, "band_limit": 0.5}),
            "speakers drawn equally": speech(balance="groups"),
            "all of them": speech({"mask": 0.2, "remove_mean": True}, EVERYTHING | {"mixup": 0.3}, balance="groups"),
        },
        baseline="speakers apart",
        tasks=("languages",),
        seeds=1,
        folds=5,
        final=True,
    ),
}
