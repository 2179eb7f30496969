"""What every notebook does around its question: start, get a model, score it, write results. No notebook's teaching."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers import data, inference, metrics, weights
from helpers.checkpoint import replacing
from helpers.learning import Learning
from helpers.tasks import Task, get_task

MODES = ("infer", "train")
SCHEMA = 1


@dataclass(frozen=True)
class Experiment(Learning):
    """One run of one notebook.

    Attributes
    ----------
    notebook : str
        Such as "03_raw_audio_cnn"; figures start with its number.
    parameters : dict
        As given to the notebook.
    task : Task
    data : helpers.data.Dataset
    bundle, out : Path
        Where the bundle is, and the folder that gets results/, figures/ and weights/.
    started : float
        `time.perf_counter()`.
    """

    notebook: str
    parameters: dict
    task: Task
    data: data.Dataset
    bundle: Path
    out: Path
    started: float

    @property
    def mode(self) -> str:
        """ "infer" loads weights and never trains; "train" trains and saves weights under `out`."""
        return self.parameters["MODE"]

    @property
    def folder(self) -> str:
        """`<task>-<data>`, the folder's name under weights/ and figures/."""
        return f"{self.task.name}-{self.data.name}"

    @property
    def roots(self) -> list[Path]:
        """Folders with weights: those trained into `out` first, then the bundle's own."""
        return list(dict.fromkeys([self.out / "weights", self.bundle / "weights"]))

    def model_name(self, base: str) -> str:
        """Name of the weights: `base`, with the classes where only some were chosen."""
        chosen = self.parameters["CLASSES"]
        return f"{base}_{'-'.join(self.data.classes)}" if chosen else base

    def predict(self, model, split: str = "test") -> np.ndarray:
        """Probabilities of a split's clips, (clips, classes)."""
        return inference.predict_pack(model, self.data.splits[split], self.task)

    def scores(self, probabilities: np.ndarray, split: str = "test") -> dict:
        """Scores with intervals over groups; see `metrics.scores`."""
        pack = self.data.splits[split]
        return metrics.scores(probabilities, pack.targets, pack.groups)

    def per_class(self, probabilities: np.ndarray) -> tuple[str, dict[str, list]]:
        """What is measured per class, and by class its value and the number of test clips that have it."""
        targets = self.data.test.targets
        if self.task.multi_label:
            values, support, name = metrics.per_tag(probabilities, targets)[0], targets.sum(axis=0), "ROC-AUC"
        else:
            counts = metrics.confusion(probabilities, targets)
            support, name = counts.sum(axis=1), "recall"
            values = np.where(support > 0, counts.diagonal() / np.maximum(support, 1), np.nan)
        rows = zip(self.data.classes, values, support, strict=True)
        return name, {label: [float(value), int(count)] for label, value, count in rows if np.isfinite(value)}

    def save_figure(self, figure, name: str) -> None:
        """Write `figures/<task>-<data>/NN_name.png` and `.pdf`, the same bytes for the same figure."""
        folder = self.out / "figures" / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.notebook[:2]}_{name}"
        figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})

    def study(self, name: str, folder: str = "") -> dict | None:
        """A committed study's table (see `python -m bundle sweep`), None where there is none for this task and data.

        `folder` names another one under report/results than `<task>-<data>`.
        """
        path = self.bundle / "report" / "results" / (folder or self.folder) / f"study_{name}.json"
        if self.parameters["CLASSES"] or not path.is_file():
            print(f"There is no study '{name}' here; python -m bundle sweep {name} --help says how one is made.")
            return None
        return json.loads(path.read_text())

    def finish(
        self,
        metrics: dict[str, dict],
        predictions: dict[str, np.ndarray] | None = None,
        curves: dict | None = None,
        weights_digest: dict[str, str] | None = None,
        **more,
    ) -> Path:
        """Write `results/<notebook>.json`, and `.npz` with the predictions the metrics can be recomputed from.

        `metrics` by name: {"value", "low", "high", "n"} and what else belongs to it; `predictions` by model:
        probabilities of the test clips, (clips, classes); `more`: further JSON. Returns the JSON file's path.
        """
        folder = self.out / "results"
        folder.mkdir(parents=True, exist_ok=True)
        if predictions:
            test = self.data.test
            arrays = {"names": test.names, "groups": test.groups, "targets": test.targets} | predictions
            with replacing(folder / f"{self.notebook}.npz") as temporary:
                np.savez_compressed(temporary, **arrays)
        results = {
            "schema": SCHEMA,
            "notebook": self.notebook,
            "task": self.task.name,
            "data": self.data.name,
            "mode": self.mode,
            "parameters": {name: value for name, value in self.parameters.items() if name != "OUT"},
            "metrics": metrics,
            "headline": self.task.headline,
            "curves": curves or {},
            "seconds": round(time.perf_counter() - self.started, 1),
            "environment": weights.environment(),
            "classes": self.data.classes,
            "clips": {name: len(pack) for name, pack in self.data.splits.items()},
            "data_digest": self.data.digest,
            "weights_digest": weights_digest or {},
            "unreadable": self.data.unreadable(),
            "notes": self.data.notes,
        } | more
        path = folder / f"{self.notebook}.json"
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(results, indent=1, default=float) + "\n")
        return path


def start(notebook: str, bundle: Path, parameters: dict) -> Experiment:
    """Check the parameters, load the data, and say what there is.

    `parameters` are the notebook's: at least TASK, DATA, MODE, SEED, CLASSES, OUT; `bundle` holds `helpers`.

    Raises
    ------
    ValueError, FileNotFoundError
        If a parameter or the data are not what is expected.
    """
    started = time.perf_counter()
    task = get_task(parameters["TASK"])
    if parameters["MODE"] not in MODES:
        raise ValueError(f"MODE: found {parameters['MODE']!r}, expected 'infer' (load weights) or 'train'.")
    for name, least in (("EPOCHS", 1), ("TRIALS", 0), ("SEED", 0)):
        if parameters.get(name, least) < least:
            raise ValueError(f"{name}: found {parameters[name]}, expected at least {least}.")
    versions = weights.environment()
    print(", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy", "threads", "gpu")))
    out = Path(parameters["OUT"]).expanduser() if parameters["OUT"] else bundle / "runs" / "by-hand" / task.name
    root = bundle if os.access(bundle, os.W_OK) else out  # packs stand beside the results of a read-only bundle
    loaded = data.load(task, parameters["DATA"], root, parameters["CLASSES"])
    print(loaded.summary())
    return Experiment(notebook, parameters, task, loaded, bundle, out.resolve(), started)
