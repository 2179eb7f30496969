"""Execute one notebook in this process, and write its page: python -m bundle.run.one SOURCE EXECUTED PARAMETERS."""

from __future__ import annotations

import json
import sys
from pathlib import Path

STARTS = 3  # kernels that start at the same moment may take each other's port; then no cell has run yet
NOT_STARTED = "Kernel died before replying to kernel_info"


def execute(source: Path, executed: Path | None, parameters: dict, folder: Path | None = None, starts: int = STARTS):
    """Execute a notebook with papermill, again where its kernel could not start; returns the executed one.

    Parameters
    ----------
    source : Path
    executed : Path, optional
        Where it is written with its outputs after every cell, also when one fails.
    parameters : dict
        Replace those of its first cell.
    folder : Path, optional
        Where the kernel runs: the notebook's own, unless given.
    starts : int
        Kernels that are tried.

    Raises
    ------
    papermill.PapermillExecutionError
        If a cell fails.
    RuntimeError
        If no kernel starts.
    """
    import papermill

    kernel = {"kernel_name": "python3", "shutdown_kernel": "immediate"}  # taking leave would last two seconds
    try:
        return papermill.execute_notebook(
            source, executed, parameters, cwd=folder or source.parent, progress_bar=False, **kernel
        )
    except RuntimeError as error:
        if NOT_STARTED not in str(error) or starts == 1:
            raise
        return execute(source, executed, parameters, folder, starts - 1)


def main() -> None:
    """Execute as the command line says; the page is made of a failed notebook too."""
    from nbconvert import HTMLExporter

    source, executed = map(Path, sys.argv[1:3])
    try:
        execute(source, executed, json.loads(sys.argv[3]))
    finally:
        if executed.is_file():
            page = HTMLExporter().from_filename(str(executed))[0]
            executed.with_suffix(".html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
