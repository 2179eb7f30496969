"""What an experiment does with models: load them, or tune, train and save them."""

from __future__ import annotations

import os
from dataclasses import asdict, replace

import torch

from helpers import models, ranks, training, tuning, weights


class Learning:
    """The part of `experiment.Experiment` that deals with models; it uses the other's attributes."""

    def load(self, base: str) -> tuple[object, dict]:
        """Load weights, saying from where.

        Raises
        ------
        FileNotFoundError, ValueError
            If they are missing, altered, or for other classes.
        """
        name = self.model_name(base)
        folder = weights.find(name, self.task, self.data.name, self.roots)
        model, info = weights.load(folder, name, self.task, self.data.classes)
        print(f"{name}: weights trained on {info['data']} (seed {info['seed']}, digest {info['sha256'][:12]})")
        if info["data"] != self.data.name:
            print(
                f"  No weights trained on '{self.data.name}' were found; these come from other data: '{info['data']}'."
            )
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
        if ranks.place().rank:
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
            tuning.search(kind, objective, self.parameters["TRIALS"], settings.seed, self.out / "results", **self.about)
        found = tuning.best(kind, self.task, self.data.name, [self.out, self.bundle])
        print(f"{kind}: settings are {found['source']}")
        return *training.with_tuned(config, settings, found["settings"]), found

    @property
    def about(self) -> dict:
        """What a search is about: only a search about the same is continued."""
        return {
            "task": self.task.name,
            "data": self.data.name,
            "data_digest": self.data.digest,
            "classes": self.data.classes,
            "metric": self.task.headline,
            "epochs": self.parameters.get("EPOCHS"),
        }

    def save(self, base: str, model, **info) -> dict:
        """Score a model on the test split and save its weights under `out`; returns their description."""
        name = self.model_name(base)
        probabilities = self.predict(model)
        networks = isinstance(model, torch.nn.Module)
        info |= {
            "task": self.task.name,
            "data": self.data.name,
            "data_digest": self.data.digest,
            "classes": self.data.classes,
            "rate": self.task.rate,
            "seed": self.parameters["SEED"],
            "parameters": models.count_parameters(model) if networks else info.get("parameters", 0),
            "scores": self.scores(probabilities),
            "hardware": f"{os.cpu_count()} CPU cores"
            if not torch.cuda.is_available()
            else torch.cuda.get_device_name(),
            "environment": weights.environment(),
        }
        info["per_class_metric"], info["per_class"] = self.per_class(probabilities)
        folder = self.out / "weights" / self.folder
        weights.save(folder, name, model, info)
        print(f"{name}: saved in {folder}")
        return weights.read_info(folder, name)
