"""Execute one notebook in this process, and write its page: python -m bundle.run.one SOURCE EXECUTED PARAMETERS."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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

    # taking leave would last two seconds
    kernel = {"kernel_name": "python3", "shutdown_kernel": "immediate"}
    try:
        with own_kernel():
            return papermill.execute_notebook(
                source, executed, parameters, cwd=folder or source.parent, progress_bar=False, **kernel
            )
    except RuntimeError as error:
        if NOT_STARTED not in str(error) or starts == 1:
            raise
        return execute(source, executed, parameters, folder, starts - 1)


@contextmanager
def own_kernel() -> Iterator[None]:
    """Let "python3" be the Python that runs this, whatever kernels of that name are installed."""
    about = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    before = os.environ.get("JUPYTER_PATH")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "kernels" / "python3"
        place.mkdir(parents=True)
        (place / "kernel.json").write_text(json.dumps(about | {"display_name": "Python 3"}), encoding="utf-8")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(part for part in (folder, before) if part)
        try:
            yield
        finally:
            os.environ.pop("JUPYTER_PATH") if before is None else os.environ.update(JUPYTER_PATH=before)


def write_page(executed: Path) -> None:
    """The page of an executed notebook, beside it; where none can be made, a note says why."""
    import nbformat
    from nbconvert import HTMLExporter

    try:
        notebook = nbformat.read(executed, nbformat.NO_CONVERT)
        notebook.metadata.pop("widgets", None)  # Colab saves them without their state
        executed.with_suffix(".html").write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    except Exception as error:  # the results are what counts
        print(f"note: no page of {executed.name} ({type(error).__name__}: {error})", file=sys.stderr)


def main() -> None:
    """Execute as the command line says; the page is made of a failed notebook too."""
    source, executed = map(Path, sys.argv[1:3])
    try:
        execute(source, executed, json.loads(sys.argv[3]))
    finally:
        if executed.is_file():
            write_page(executed)


if __name__ == "__main__":
    main()
