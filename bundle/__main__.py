"""`python -m bundle <verb>`: the commands of the bundle, each with --help."""

import argparse
import sys
from importlib import import_module

VERBS = {  # module, and what it does
    "run": ("run.command", "execute the notebooks headless"),
    "reproduce": ("reproduce.command", "check the reported results, and train again"),
    "sweep": ("study.command", "run a study: many trainings, one table"),
    "site": ("site.command", "build the pages"),
    "train": ("study.train", "train one network on many devices"),
    "download": ("download", "fetch a published data set"),
    "doctor": ("doctor", "check this machine, and data"),
    "grade": ("grade.command", "judge a submission"),
    "submit": ("submit.command", "write the zip that a brief asks for"),
    "report": ("report.command", "build papers and slides from the results"),
    "video": ("video.command", "make the walkthrough film"),
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a verb; returns its exit code: 0 done, 1 something failed, 2 a wrong command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m bundle", description="Work with the hand-in.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for name, (module, about) in VERBS.items():
        if arguments[:1] == [name]:  # a verb works, and starts fast, whatever the others need
            import_module(f"bundle.{module}").add_arguments(verbs)
        else:
            verbs.add_parser(name, help=about)
    options = parser.parse_args(arguments)
    return options.call(options)


if __name__ == "__main__":
    sys.exit(main())
