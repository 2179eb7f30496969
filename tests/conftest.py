"""What the tests share: the bundle's folder, small rendered demo data, and real recordings where AUDIO_DATA says."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers and their notebooks share the cores
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest

import demo
from helpers import data
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def toy():
    """Folder with a tenth of the rendered demo data of every task: <folder>/<task>; rendered once, then reused."""
    for task in TASKS:
        demo.ensure(task, ROOT / "cache" / "toy", scale=0.1)
    return ROOT / "cache" / "toy"


@pytest.fixture(scope="session")
def load_toy(toy):
    """Load a task's toy data: load_toy("nsynth") -> Dataset."""
    return lambda task, classes="": data.load(TASKS[task], str(toy / task), ROOT, classes)


@pytest.fixture(scope="session")
def real():
    """Folder with real recordings: nsynth/, languages/, magnatagatune/."""
    folder = os.environ.get("AUDIO_DATA")
    if not folder:
        pytest.skip("AUDIO_DATA is not set: no real recordings to read")
    assert Path(folder).is_dir(), f"AUDIO_DATA: {folder} is not a folder"
    return Path(folder)
