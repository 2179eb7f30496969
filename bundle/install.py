"""Install what the bundle needs into the Python that runs this script. Uses the standard library alone.

An installed torch that is new enough is kept, with whatever CUDA it was built for. With --missing (in Colab) everything
installed is kept.
"""

import argparse
import importlib.metadata
import subprocess
import sys
from pathlib import Path

OLDEST_TORCH = (2, 6)  # what the networks and their training were written for
ROOT = Path(__file__).resolve().parent.parent


def requirements(path: Path) -> list[str]:
    """The requirements of a file, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def to_install(wanted: list[str], installed: dict[str, str], missing_only: bool = False) -> list[str]:
    """Choose among `wanted`, lines such as "numpy==2.4.6", by the `installed` versions, as said above."""
    torch = installed.get("torch", "0.0").split(".")[:2]
    kept = {"torch", "torchaudio"} if tuple(int(part) for part in torch) >= OLDEST_TORCH else set()
    names = {line: line.split("==")[0] for line in wanted}
    if missing_only:
        kept |= set(names.values()) - {"torch", "torchaudio"}
    return [line for line in wanted if names[line] not in kept or names[line] not in installed]


def main() -> None:
    """Install requirements.txt, the renderers without what they declare, and with --tests what the tests need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="also what the tests need")
    parser.add_argument("--missing", action="store_true", help="keep what is installed, whatever its version")
    options = parser.parse_args()
    wanted = requirements(ROOT / "requirements.txt")
    wanted += requirements(ROOT / "requirements-test.txt") if options.tests else []
    installed = {part.metadata["Name"].lower(): part.version for part in importlib.metadata.distributions()}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    chosen = to_install(wanted, installed, options.missing)
    if chosen:
        subprocess.run([*pip, *chosen], check=True)
    subprocess.run([*pip, "--no-deps", *requirements(ROOT / "requirements-demo.txt")], check=True)
    # librosa compiles parts of itself when first used, which takes seconds, and keeps them
    subprocess.run([sys.executable, "-c", "import librosa; librosa.feature.melspectrogram"], check=True)


if __name__ == "__main__":
    main()
