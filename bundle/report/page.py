"""A document as one page for the browser, where there is no LaTeX: the LaTeX these documents use, and no more.

Commands that are not known here leave out what they do and keep their text.
"""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from bundle.report.latex import SIGNS, SYMBOLS, closing, formula, group, groups, numbered, references

STYLE = """body{max-width:46em;margin:2em auto;padding:0 1em;font:17px/1.5 Georgia,serif;color:#222;background:#fff}
h1,h2,h3{line-height:1.2}h1,.authors{text-align:center}figure{margin:1.5em 0}img{max-width:100%}
figcaption{font-size:.9em;color:#444}table{border-collapse:collapse;font-size:.85em;margin:.5em 0}
th,td{padding:.15em .6em;text-align:right}th:first-child,td:first-child{text-align:left}
tr:first-child>*{border-bottom:1px solid;border-top:2px solid}tr:last-child>*{border-bottom:2px solid}
.words th,.words td{text-align:left;vertical-align:top;font-weight:normal}
.scroll{overflow-x:auto}.abstract{margin:1em 2em;font-style:italic}"""
TAGS = {"textbf": "strong", "emph": "em", "textit": "em", "texttt": "code", "alert": "strong", "footnote": "small"}
HEADINGS = {"section": "h2", "subsection": "h3", "frametitle": "h2", "paragraph": "h4", "subsubsection": "h4"}
BLOCKS = {
    "itemize": "ul",
    "enumerate": "ol",
    "figure": "figure",
    "table": "figure",
    "abstract": "div",
    "frame": "section",
}
DROPPED = {  # commands without text, and how many arguments they take along
    "label": 1, "vspace": 1, "hspace": 1, "setlength": 2, "bibliographystyle": 1, "pagestyle": 1, "thispagestyle": 1,
    "cmidrule": 0, "hypersetup": 1, "addtolength": 2, "input": 1, "fontsize": 2, "color": 1, "rule": 2, "parbox": 0,
    "renewcommand": 2, "setcounter": 2, "vskip": 0, "hskip": 0, "usetikzlibrary": 1, "resizebox": 2, "setbeamersize": 1,
}  # fmt: skip


def page(path: Path) -> str:
    """The document whose main file is `path`, in a copy made by `report.copy_sources`, as self-contained HTML.

    Raises
    ------
    FileNotFoundError, ValueError
        If a figure, table or fact is missing.
    """
    return _Page(path).write()


class _Page:
    def __init__(self, path: Path):
        self.folder = path.parent
        self.known = dict(
            re.findall(r"^\\setfact\{(.*?)\}\{(.*)\}$", self._read("../generated/facts.tex"), re.MULTILINE)
        )
        self.text = re.sub(r"(?<!\\)%.*\n?", "", path.read_text(encoding="utf-8"))
        self.macros = {}
        for found in re.finditer(r"\\newcommand\{?\\(\w+)\}?(?:\[(\d)\])?(?=\{)", self.text):
            self.macros[found[1]] = (int(found[2] or 0), group(self.text, found.end())[0])
        self.entries = dict(
            re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", self._read("../references.bib"), re.MULTILINE | re.DOTALL)
        )
        self.cited: list[str] = []
        self.labels: dict[str, int] = {}
        self.counts = {"figure": 0, "table": 0, "section": 0}
        self.prefix = ""

    def _read(self, name: str) -> str:
        return (self.folder / name).resolve().read_text(encoding="utf-8")

    def write(self) -> str:
        """The whole page."""
        body = self.text.partition(r"\begin{document}")[2].partition(r"\end{document}")[0]
        expanded = self.expand(body)
        self.labels = numbered(expanded)
        title = self.render(self.expand(self._of("title")))
        people = self.render(self.expand(self._of("author")))
        content = self.render(expanded)
        plain = re.sub(r"<[^>]+>", " ", title).strip()
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{plain}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
            f"<body>\n<h1>{title}</h1>\n"
            f'<p class="authors">{people}</p>\n{content}\n</body></html>\n'
        )

    def _of(self, command: str) -> str:
        found = re.search(rf"\\{command}(\[.*?\])?(?=\{{)", self.text)
        return group(self.text, found.end())[0] if found else ""

    def expand(self, text: str) -> str:
        """The text with facts, choices, tables and the document's own commands put in."""
        while found := self._next(text):
            name, (arguments, end) = found[1], (None, 0)
            count = {
                "fact": 1,
                "ifknown": 3,
                "byverdict": 4,
                "generated": 1,
                "ifgenerated": 3,
                "input": 1,
                "IfFileExists": 3,
            }
            number, template = self.macros.get(name, (count.get(name, 0), None))
            arguments, end = groups(text, found.end(), number)
            if template is not None:
                new = re.sub(r"#(\d)", lambda place: arguments[int(place[1]) - 1], template)  # noqa: B023
            else:
                new = self._choose(name, [self.expand(arguments[0]), *arguments[1:]])
            text = text[: found.start()] + new + text[end:]
        return text

    def _next(self, text: str):
        names = "|".join(
            ["fact", "ifknown", "byverdict", "generated", "ifgenerated", "input", "IfFileExists", *self.macros]
        )
        return re.search(rf"\\({names})(?![A-Za-z])\s*", text)

    def _choose(self, name: str, arguments: list[str]) -> str:
        key = arguments[0]
        if name in ("fact", "byverdict") and (needed := f"{key}{'.sign' * (name == 'byverdict')}") not in self.known:
            raise ValueError(
                f"there is no fact '{needed}'. generated/facts.tex has them all; a study may not have been run."
            )
        if name == "fact":
            return self.known[key]
        if name == "ifknown":
            return arguments[1] if key in self.known else arguments[2]
        if name == "byverdict":
            return arguments[1 + ("more", "less", "unclear").index(self.known[f"{key}.sign"])]
        if name in ("generated", "input"):
            path = f"../generated/{key}.tex" if name == "generated" else key
            return "" if path.endswith("facts.tex") else self._read(path)
        path = f"../generated/{key}.tex" if name == "ifgenerated" else key
        return arguments[1] if (self.folder / path).is_file() else arguments[2]

    def render(self, text: str) -> str:
        """LaTeX without facts, as HTML."""
        made, position = [], 0
        pattern = re.compile(
            r"\\begin\{(\w+)(\*?)\}|\\([A-Za-z]+\*?)|\\(.)|\$(.*?)\$|([{}])|(\n\s*\n)|(---?|``|''|[`'~])", re.DOTALL
        )
        while found := pattern.search(text, position):
            made.append(html.escape(text[position : found.start()], quote=False))
            environment, star, command, sign, math, _, paragraph, mark = found.groups()
            position = found.end()
            if environment:
                end = closing(text, environment + star, position)
                made.append(self._environment(environment, text[position:end]))
                position = text.index("}", end) + 1
            elif command:
                new, position = self._command(command, text, position)
                made.append(new)
            elif sign:
                made.append({",": "\u202f", "\\": "<br>", " ": " ", "@": ""}.get(sign, html.escape(sign)))
                if sign == "\\" and (spacing := re.match(r"\[[^\]]*\]", text[position:])):
                    position += spacing.end()
            elif math is not None:
                made.append(f"<i>{formula(math)}</i>" if re.search("[a-z]", math) else formula(math))
            elif paragraph:
                made.append("\n<p>")
            elif mark:
                made.append(SIGNS.get(mark, mark))
        return "".join([*made, html.escape(text[position:], quote=False)])

    def _command(self, command: str, text: str, position: int) -> tuple[str, int]:
        command, starred = command.removesuffix("*"), command.endswith("*")
        options = re.match(r"\s*(<[^>]*>)?\s*\[[^\]]*\]", text[position:])
        after = position + options.end() if options else position
        if command in DROPPED:
            return "", groups(text, after, DROPPED[command])[1]
        if command in TAGS or command in HEADINGS or command == "caption":
            (content,), end = groups(text, after, 1)
            tag = TAGS.get(command) or HEADINGS.get(command) or "figcaption"
            if command == "section" and not starred:
                self.counts["section"] += 1
                return f"<h2>{self.counts['section']} {self.render(content)}</h2>", end
            return f"<{tag}>{self.prefix * (command == 'caption')}{self.render(content)}</{tag}>", end
        if command == "includegraphics":
            (name,), end = groups(text, after, 1)
            return self._picture(name), end
        if command in ("cite", "citep", "citet"):
            (names,), end = groups(text, after, 1)
            return f"[{', '.join(str(self._number(name.strip())) for name in names.split(','))}]", end
        if command == "ref":
            (name,), end = groups(text, after, 1)
            return str(self.labels.get(name, "??")), end
        if command == "href":
            (address, content), end = groups(text, after, 2)
            return f'<a href="{html.escape(address)}">{self.render(content)}</a>', end
        if command == "url":
            (address,), end = groups(text, after, 1)
            return f'<a href="{html.escape(address)}">{html.escape(address)}</a>', end
        if command == "bibliography":
            return references(self.cited, self.entries, self.render), groups(text, after, 1)[1]
        if command == "item":
            return "\n<li>", after
        if command in ("par", "maketitle", "newpage", "clearpage"):
            return "\n<p>", position
        blank = re.match(
            r"(?:[ \t]*\n(?!\s*\n)[ \t]*|[ \t]*)", text[position:]
        )  # TeX eats the space after a command's name
        return SYMBOLS.get(command, ""), position + blank.end()

    def _environment(self, name: str, content: str) -> str:
        if name in ("tabular", "tabularx"):
            return self._table(content, 2 if name == "tabularx" else 1)
        content = re.sub(r"^(\s*\[[^\]]*\])+", "", content)
        if name in ("minipage", "column", "block", "adjustbox", "columns"):
            content = content[groups(content, 0, 0 if name == "columns" else 1)[1] :]
        if name in ("figure", "table"):
            self.counts[name] += 1
            self.prefix = f"{name.capitalize()} {self.counts[name]}. "
        tag, extra = BLOCKS.get(name, "div"), ' class="abstract"' if name == "abstract" else ""
        heading = ""
        if name == "frame" and content.lstrip().startswith("{"):
            (words,), end = groups(content, 0, 1)
            heading, content = f"<h2>{self.render(words)}</h2>", content[end:]
        return f"\n<{tag}{extra}>{heading}{self.render(content)}</{tag}>\n"

    def _table(self, content: str, skip: int) -> str:
        given, end = groups(content, 0, skip)
        words = ' class="words"' if re.search("[pX]", given[-1]) else ""
        content = re.sub(r"\\(toprule|midrule|bottomrule|hline|cmidrule(\(.*?\))?\{.*?\})\s*", "", content[end:])
        rows = []
        for line in re.split(r"\\\\(?:\[.*?\])?", content):
            if not line.strip():
                continue
            cells = []
            for cell in re.split(r"(?<!\\)&", line):
                wide = re.match(r"\s*\\multicolumn", cell)
                (number, _, inside) = groups(cell, wide.end(), 3)[0] if wide else (1, "", cell)
                cells.append((f' colspan="{number}"' if wide else "", self.render(inside).strip()))
            tag = "td" if rows else "th"
            rows.append("<tr>" + "".join(f"<{tag}{span}>{cell}</{tag}>" for span, cell in cells) + "</tr>")
        return f'<div class="scroll"><table{words}>{"".join(rows)}</table></div>'

    def _picture(self, name: str) -> str:
        path = (self.folder / name.strip()).with_suffix(".png")
        if not path.is_file():
            raise FileNotFoundError(f"{name}: no such figure ({path.name}). Make it with python -m bundle run --keep.")
        content = base64.b64encode(path.read_bytes()).decode()
        return f'<img alt="{path.stem.replace("_", " ")}" src="data:image/png;base64,{content}">'

    def _number(self, name: str) -> int:
        if name not in self.cited:
            self.cited.append(name)
        return self.cited.index(name) + 1
