"""What every notebook does around its question: start, get a model, score it, write results. No notebook's teaching."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from helpers import data, inference, metrics, models, training, tuning, weights
from helpers.data.listing import unreadable
from helpers.files import finish, together
from helpers.tasks import Task, get_task

NUMBERS = {  # parameters of notebooks that are whole numbers, and what makes sense
    "SEED": (0, 2**32 - 1), "EPOCHS": (1, 100_000), "TRIALS": (0, 100_000), "LENGTH": (1, 100_000),
    "STRIDE": (1, 100_000),
}  # fmt: skip
TRUTHS = ("LOG",)


@dataclass(frozen=True)
class Experiment:
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
    def about(self) -> dict:
        """What weights, results and searches record of the data: only what agrees in it is compared or continued."""
        return {
            "task": self.task.name,
            "data": self.data.name,
            "data_digest": self.data.digest,
            "classes": self.data.classes,
        }

    def model_name(self, base: str) -> str:
        """Name of the weights: `base`, with the classes where only some were chosen."""
        chosen = self.parameters["CLASSES"]
        return f"{base}_{'-'.join(self.data.classes)}" if chosen else base

    def load(self, base: str) -> tuple[object, dict]:
        """Load weights, those trained into `out` before the bundle's own, saying which they are.

        Raises
        ------
        FileNotFoundError, ValueError
            If they are missing, altered, or for other classes.
        """
        name = self.model_name(base)
        roots = list(dict.fromkeys([self.out / "weights", self.bundle / "weights"]))
        folder = weights.find(name, self.task, self.data.name, roots)
        model, info = weights.load(folder, name, self.task, self.data.classes)
        print(f"{name}: weights trained on {info['data']} (seed {info['seed']}, digest {info['sha256'][:12]})")
        if info["data"] != self.data.name:
            print(f"  There are none trained on '{self.data.name}'; these come from other data: '{info['data']}'.")
        elif info.get("data_digest", self.data.digest) != self.data.digest:
            print(f"  They were trained on other data of the same name (digest {info['data_digest'][:12]}).")
        return model, info

    def train_or_load(self, base: str, config: dict, settings: training.Settings) -> tuple[torch.nn.Module, dict]:
        """Train a network in train mode, else load its weights.

        In train mode the weights of the best epoch by validation score are saved with their test scores, and those of
        the final epoch are scored beside them as the `bristol` brief asks.

        Parameters
        ----------
        base : str
            Name of the weights, without the classes.
        config : dict
            From `models.config_for`.
        settings : training.Settings

        Returns
        -------
        model : nn.Module
            In evaluation mode.
        info : dict
            Description of the weights, with "curves" of the training.
        """
        if self.mode == "infer":
            return self.load(base)
        model = models.build(config, self.parameters["SEED"])
        log = self.out / "logs" / self.folder / self.model_name(base)
        fit = training.fit(model, self.data.train, self.data.valid, self.task, settings, log)
        if training.place().rank:
            return model, {}  # another process of the same training saves it
        last = self.scores(self.predict(model))
        model.load_state_dict(fit.best)
        info = self.save(
            base,
            model,
            config=config,
            settings=asdict(settings),
            summary=f"{config['kind']}.",
            front_end=", ".join(f"{key} {config[key]}" for key in ("n_fft", "hop", "mels", "log") if key in config),
            training=f"AdamW, {settings.epochs} epochs, best: {fit.best_epoch}, by validation {self.task.headline}.",
            best_epoch=fit.best_epoch,
            curves=fit.curves,
            final_epoch=last,
            minutes=fit.seconds / 60,
            precision=fit.precision,
        )
        training.forget(log)
        return model.eval(), info

    def tuned(self, kind: str, config: dict, settings: training.Settings) -> tuple[dict, training.Settings, dict]:
        """Tune a network on the validation split when TRIALS is positive, else use the committed best settings.

        A trial trains for half of the epochs and counts with its best validation score; the test split takes no part.

        Parameters
        ----------
        kind : str
            A key of `tuning.SPACES`.
        config : dict
            From `models.config_for`.
        settings : training.Settings

        Returns
        -------
        config : dict
        settings : training.Settings
        found : dict
            As from `tuning.best`.
        """

        def objective(tried: dict[str, float]) -> float:
            options, how = training.with_tuned(config, replace(settings, epochs=-(-settings.epochs // 2)), tried)
            model = models.build(options, settings.seed)
            fit = training.fit(model, self.data.train, self.data.valid, self.task, how)
            return fit.curves["epoch_valid_score"][fit.best_epoch - 1]

        if self.mode == "train" and self.parameters["TRIALS"]:
            about = self.about | {"metric": self.task.headline, "epochs": settings.epochs}
            tuning.search(kind, objective, self.parameters["TRIALS"], settings.seed, self.out / "results", **about)
        found = tuning.best(kind, self.task, self.data.name, [self.out, self.bundle])
        print(f"{kind}: settings are {found['source']}")
        return *training.with_tuned(config, settings, found["settings"]), found

    def save(self, base: str, model, **info) -> dict:
        """Score a model on the test split and save its weights under `out`; returns their description."""
        name = self.model_name(base)
        probabilities = self.predict(model)
        cores = f"{os.cpu_count()} CPU cores"
        info |= self.about | {
            "rate": self.task.rate,
            "seed": self.parameters["SEED"],
            "parameters": models.count_parameters(model) if isinstance(model, torch.nn.Module) else 0,
            "scores": self.scores(probabilities),
            "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else cores,
            "environment": weights.environment(),
        }
        info["per_class_metric"], info["per_class"] = self.per_class(probabilities)
        folder = self.out / "weights" / self.folder
        weights.save(folder, name, model, info)
        print(f"{name}: saved in {folder}")
        return weights.read_info(folder, name)

    def predict(self, model) -> np.ndarray:
        """Probabilities of the test clips, (clips, classes)."""
        return inference.predict_pack(model, self.data.test, self.task)

    def scores(self, probabilities: np.ndarray) -> dict:
        """Scores on the test split with intervals over groups; see `metrics.scores`."""
        return metrics.scores(probabilities, self.data.test.targets, self.data.test.groups)

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

    def save_figure(self, figure, name: str, pdf: bool = False) -> None:
        """Write `figures/<task>-<data>/NN_name.png`, and as PDF what is to be printed: same bytes, same figure."""
        folder = self.out / "figures" / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.notebook[:2]}_{name}"
        figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
        if pdf:
            figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})

    def read_study(self, name: str, folder: str = "") -> dict | None:
        """A committed study as `python -m bundle sweep` wrote it, None where there is none for this task and data.

        The one thing notebooks read in report/results; `folder` names another one there than `<task>-<data>`.
        """
        path = self.bundle / "report" / "results" / (folder or self.folder) / f"study_{name}.json"
        if self.parameters["CLASSES"] or not path.is_file():
            print(f"There is no study '{name}' here; python -m bundle sweep {name} --help says how one is made.")
            return None
        return json.loads(path.read_text(encoding="utf-8"))

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
        results = {
            "schema": 1,
            "notebook": self.notebook,
            **self.about,
            "mode": self.mode,
            "parameters": {name: value for name, value in self.parameters.items() if name != "OUT"},
            "metrics": metrics,
            "headline": self.task.headline,
            "curves": curves or {},
            "seconds": round(time.perf_counter() - self.started, 1),
            "environment": weights.environment(),
            "clips": {name: len(pack) for name, pack in self.data.splits.items()},
            "weights_digest": weights_digest or {},
            "unreadable": unreadable(self.data.problems),
            "notes": self.data.notes,
        } | more
        test = self.data.test
        with together(folder) as staged:
            if predictions:
                arrays = {"names": test.names, "groups": test.groups, "targets": test.targets} | predictions
                np.savez_compressed(staged / f"{self.notebook}.npz", **arrays)
            path = staged / f"{self.notebook}.json"
            path.write_text(json.dumps(results, indent=1, default=float) + "\n", encoding="utf-8")
        return folder / path.name


def refuse_senseless(parameters: dict) -> None:
    """Raise a ValueError for a parameter of a notebook that is of another type or beyond what makes sense."""
    for name, value in parameters.items():
        if name in NUMBERS:
            low, high = NUMBERS[name]
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name}: found {value!r}, expected a whole number from {low} to {high:,}.")
        elif name in TRUTHS and type(value) is not bool:
            raise ValueError(f"{name}: found {value!r}, expected True or False.")
        elif name not in TRUTHS and not isinstance(value, str):
            raise ValueError(f"{name}: found {value!r}, expected a text.")
    if parameters["MODE"] not in ("infer", "train"):
        raise ValueError(f"MODE: found {parameters['MODE']!r}, expected 'infer' (load weights) or 'train'.")


def start(notebook: str, bundle: str | Path, parameters: dict) -> Experiment:
    """Check the parameters, load the data, and say what there is.

    `parameters` are the notebook's: at least TASK, DATA, MODE, SEED, CLASSES, OUT; `bundle` holds `helpers`.

    Raises
    ------
    ValueError, FileNotFoundError
        If a parameter or the data are not what is expected.
    """
    started, bundle = time.perf_counter(), Path(bundle)
    finish(bundle)
    refuse_senseless(parameters)
    task = get_task(parameters["TASK"])
    versions = weights.environment()
    print(", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy", "threads", "gpu")))
    out = Path(parameters["OUT"]).expanduser() if parameters["OUT"] else bundle / "runs" / "by-hand" / task.name
    root = bundle if os.access(bundle, os.W_OK) else out  # packs stand beside the results of a read-only bundle
    loaded = data.load(task, parameters["DATA"], root, parameters["CLASSES"])
    print(loaded.summary())
    return Experiment(notebook, parameters, task, loaded, bundle, out.resolve(), started)
