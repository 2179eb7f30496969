"""`python -m bundle <verb>`: the commands of the bundle, each with --help."""

import argparse
import sys
from importlib import import_module

VERBS = {  # who needs it: module, and what it does
    "everyone": {
        "run": ("run.command", "execute the notebooks headless"),
        "doctor": ("doctor", "check this machine, and data"),
        "download": ("download", "fetch a published data set"),
    },
    "instructors": {
        "site": ("site.command", "build the pages"),
        "video": ("video.command", "make the walkthrough film"),
    },
    "graders": {
        "reproduce": ("reproduce.command", "check the reported results, and train again"),
        "grade": ("grade.command", "judge a submission"),
    },
    "students": {
        "train": ("study.train", "train one network on many devices"),
        "sweep": ("study.command", "run a study: many trainings, one table"),
        "report": ("report.command", "build papers and slides from the results"),
        "submit": ("submit.command", "write the zip that a brief asks for"),
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Dispatch to a verb; returns its exit code: 0 done, 1 something failed, 2 a wrong command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    listed = "\n".join(
        f"for {who}:\n" + "\n".join(f"  {name:11}{about}" for name, (_, about) in verbs.items())
        for who, verbs in VERBS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m bundle",
        usage="python -m bundle <verb> …",
        description=f"Work with the hand-in.\n\n{listed}\n\npython -m bundle <verb> --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if not arguments:
        parser.print_help()
        return 2
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb", help=argparse.SUPPRESS)
    for name, (module, _) in (pair for part in VERBS.values() for pair in part.items()):
        if arguments[:1] == [name]:  # a verb works, and starts fast, whatever the others need
            import_module(f"bundle.{module}").add_arguments(verbs)
        else:
            verbs.add_parser(name)
    options = parser.parse_args(arguments)
    return options.call(options)


if __name__ == "__main__":
    sys.exit(main())
