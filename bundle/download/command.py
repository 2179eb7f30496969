"""Fetch a task's published data: resumed after a broken connection, checked by digest, unpacked safely."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(verbs) -> None:
    """Declare `python -m bundle download`."""
    from helpers.tasks import TASKS

    parser = verbs.add_parser("download", help="fetch a task's published data", description=__doc__)
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--out", type=Path, help="folder that gets the data (default: data/<task> in the bundle)")
    parser.set_defaults(call=command)


def command(options: argparse.Namespace) -> int:
    """Download; 0 when all is there, 1 with the reason when it is not."""
    from bundle.download.fetch import download
    from bundle.published import SOURCES

    folder = (options.out or ROOT / "data" / options.task).expanduser()
    try:
        download(SOURCES[options.task], folder)
    except (OSError, ValueError) as error:
        print(f"download: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.task} is complete in {folder}. Look at it with: "
        f"python -m bundle doctor --task {options.task} --data {folder}"
    )
    return 0
