"""Install what the bundle needs into the Python that runs this script. Uses the standard library alone.

An installed torch that is new enough is kept, with whatever CUDA it was built for. With --missing (as in Colab)
everything installed is kept.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

PYTHONS = (3, 11), (3, 13)  # oldest and newest that were tried
OLDEST_TORCH = (2, 6)  # what the networks and their training were written for
ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


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
    return [line for line in wanted if names[line] not in kept or names[line].lower() not in installed]


def installed() -> dict[str, str]:
    """Versions of what this Python has, by name in small letters."""
    return {part.metadata["Name"].lower(): part.version for part in importlib.metadata.distributions()}


def wrong_python(version: tuple[int, ...] = tuple(sys.version_info)) -> str:
    """What is wrong with a version of Python, in words; "" when it was tried."""
    (oldest, newest), found = PYTHONS, version[:2]
    words = "needs Python {}.{} to {}.{}, this is {}.{}".format(*oldest, *newest, *found)
    return "" if oldest <= found <= newest else words


def prepare() -> None:
    """In Colab, install what is missing and say so; elsewhere do nothing."""
    if "google.colab" not in sys.modules:
        return
    there = installed()
    lines = to_install(requirements(ROOT / "requirements.txt"), there, missing_only=True)
    renderers = to_install(requirements(ROOT / "requirements-demo.txt"), there, missing_only=True)
    if lines or renderers:
        names = ", ".join(line.split("==")[0] for line in lines + renderers)
        print(f"Installing what Colab lacks, about a minute: {names}")
        started = time.perf_counter()
        for options in ([*lines], ["--no-deps", *renderers]):
            if set(options) - {"--no-deps"}:
                subprocess.run([*PIP, *options], check=True)
        print(f"Done in {time.perf_counter() - started:.0f} s. Colab's own packages were kept.")
    print("What this runtime writes is lost with it: download it, or set OUT to a folder of a mounted Drive.")


def main() -> int:
    """Install requirements.txt, the renderers without what they declare, and with --tests what the tests need."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="also what the tests need")
    parser.add_argument("--missing", action="store_true", help="keep what is installed, whatever its version")
    options = parser.parse_args()
    if wrong := wrong_python():
        print(f"The bundle {wrong}.", file=sys.stderr)
        return 2
    wanted = requirements(ROOT / "requirements.txt")
    wanted += requirements(ROOT / "requirements-test.txt") if options.tests else []
    chosen = to_install(wanted, installed(), options.missing)
    if chosen:
        if any(line.startswith("torch==") for line in chosen):
            print(
                "Installing into this Python: on Linux with the usual index, torch brings CUDA (5.5 GB, some minutes)."
            )
            print(
                "For CPUs alone (1.8 GB), install torch and torchaudio first as README says under 'Install'.",
                flush=True,
            )
        subprocess.run([*PIP, *chosen], check=True)
    subprocess.run([*PIP, "--no-deps", *requirements(ROOT / "requirements-demo.txt")], check=True)
    # librosa compiles parts of itself when first used, which takes seconds, and keeps them
    subprocess.run([sys.executable, "-c", "import librosa; librosa.feature.melspectrogram"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
