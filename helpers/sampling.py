"""Which clips an epoch draws, in which order, and what the classes weigh in the loss."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from helpers.data.pack import Pack


def class_weights(targets: np.ndarray, classes: int) -> np.ndarray:
    """What a clip of each class, or a positive of each tag, weighs in the loss, so that all count the same.

    `targets` (clips,) or (clips, classes); a tag's weight is at most 20, and 1 where it has no positives.
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=classes)
        return (len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype(np.float32)
    positive = targets.sum(axis=0)
    return np.where(positive, np.clip((len(targets) - positive) / np.maximum(positive, 1), 1, 20), 1).astype(np.float32)


def draw_order(train: Pack, balance: str, draw: np.random.Generator) -> np.ndarray:
    """The clips of one epoch, in order: each once, or as many drawn with every class or group equally likely."""
    if balance not in ("", "loss", "classes", "groups"):
        raise ValueError(f"balance: found {balance!r}, expected '', 'loss', 'classes' or 'groups'.")
    if balance in ("", "loss"):
        return draw.permutation(len(train))
    if balance == "classes" and train.targets.ndim == 2:
        chance = (train.targets / np.maximum(train.targets.sum(axis=0), 1)).sum(axis=1)  # rare tags weigh more
    else:
        _, of_clip, counts = np.unique(
            train.targets if balance == "classes" else train.groups, return_inverse=True, return_counts=True
        )
        chance = 1 / counts[of_clip]
    return draw.choice(len(train), len(train), p=chance / chance.sum())


def ahead(items: Iterator) -> Iterator:
    """The same items, each made while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
