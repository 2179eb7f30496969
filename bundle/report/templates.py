"""A document's template in, its text out. What it asks for and is not there is an error.

In LaTeX `<< value >>` prints, escaped, `<% block %>` and lines that begin with `%%` decide: everything else is LaTeX as
it stands. A blank line behind a `%%` line is swallowed: where it is to end a paragraph, it stands before that line. The
film's script and its frames are written with jinja2's own signs.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import jinja2
from markupsafe import Markup

from bundle.report import findings
from bundle.results import short, signed, title
from helpers.augment import Augment
from helpers.features import MFCCS
from helpers.metrics import NAMES
from helpers.models import NETWORKS

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``",
    "”": "''", "…": r"\dots{}", "\u00a0": "~",
}  # fmt: skip
LATEX = {
    "block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<", "variable_end_string": ">>",
    "comment_start_string": "<#", "comment_end_string": "#>", "line_statement_prefix": "%%",
    "keep_trailing_newline": True,
    "autoescape": True,  # so that LaTeX which a macro made is known from text, which `tex` escapes
}  # fmt: skip


def printed(value):
    """What stands for a value: a fraction has three decimals, and there must be one (jinja2.UndefinedError)."""
    if value is None:
        raise jinja2.UndefinedError("None is to be printed")
    return f"{value:.3f}" if isinstance(value, float) else value


def tex(value) -> Markup:
    """What stands for a value in LaTeX: its signs are escaped; what a macro made stays as it is."""
    value = printed(value)
    if isinstance(value, Markup):
        return value
    text = "".join(SIGNS.get(sign, sign) for sign in str(value)).replace(r" \%", r"\,\%")
    return Markup(re.sub(r"[^\x00-\x7f]+", r"\\letters{\g<0>}", text))  # see `letters`


def breakable(name: str) -> Markup:
    """A path that may be broken into lines behind its signs."""
    text = tex(name)
    for sign in ("-", "/", r"\_"):
        text = text.replace(sign, sign + r"\allowbreak{}")
    return Markup(text)


def listed(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def choose(sign: str, more: str, less: str, unclear: str) -> str:
    """The words for a difference, by `Score.sign`."""
    return {"more": more, "less": less, "unclear": unclear}[sign]


FILTERS = {
    "brief": lambda number: f"{number:g}",
    "breakable": breakable,
    "choose": choose,
    "listed": listed,
    "percent": lambda share: f"{share:.0%}".replace("%", " %"),
    "titles": lambda names: listed(map(title, names)),
    "thousands": lambda number: f"{number:,.0f}",
}

KNOWN = {
    "mfccs": MFCCS,
    "names": NAMES,
    "noise": findings.noise,
    "networks_named": NETWORKS,
    "settings": findings.settings,
    "shift": Augment().shift_seconds,
    "short": short,
    "signed": signed,
    "title": title,
    "training": findings.training,
}


def render(path: Path, finalize: Callable = tex, syntax: dict = LATEX, /, **known) -> str:
    """Fill in a template; it may import those in the folder above its own.

    `finalize` gives what stands for a value, `syntax` are options of `jinja2.Environment`.

    Raises
    ------
    ValueError
        If it is no template, or asks for something that is not there; the message says in which line.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path.parent, path.parents[1]]),
        undefined=jinja2.StrictUndefined,
        finalize=jinja2.pass_context(lambda _, value: finalize(value)),  # of constants, too, for the context's sake
        **syntax,
    )
    environment.filters |= FILTERS
    environment.globals |= KNOWN
    try:
        return environment.get_template(path.name).render(known)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{error.name}, line {error.lineno}: {error.message}. Mend the template.") from error
    except (jinja2.UndefinedError, KeyError) as error:
        steps = traceback.extract_tb(error.__traceback__)
        step = [step for step in steps if step.filename.endswith(path.suffix)][-1]
        raise ValueError(
            f"{Path(step.filename).name}, line {step.lineno}: {error}. The results have nothing of the kind: run the "
            "notebook or study it is from (python -m bundle run --keep, python -m bundle sweep), or mend the template."
        ) from error
