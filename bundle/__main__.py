"""`python -m bundle <verb>`: the commands of the bundle, each with --help."""

import argparse
import sys

from bundle import run


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a verb; returns its exit code: 0 done, 1 something failed, 2 a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m bundle", description="Work with the hand-in.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in (run,):
        verb.add_arguments(verbs)
    options = parser.parse_args(arguments)
    return options.call(options)


if __name__ == "__main__":
    sys.exit(main())
