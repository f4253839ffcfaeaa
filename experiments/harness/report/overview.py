"""results/README.md: the questions, what each experiment answers, a figure of it, and where to read on."""

from pathlib import Path

from experiments.harness.report.collect import Answered, find
from experiments.harness.report.questions import QUESTIONS

TITLE = "# Four questions, answered by measurement"
NOTE = "Written by `python -m experiments report` from the answers; the same as one page: [index.html](index.html)."
REPEATED = "**The same asked elsewhere** (other data, networks, learning rates, seeds, devices); each line opens:"


def text(root: Path) -> str:
    """The README of a folder of results, from its answers.

    Raises:
        FileNotFoundError: There are no answers.
    """
    found = find(root)
    lines = [TITLE, NOTE]
    for number, question in enumerate(QUESTIONS, start=1):
        lines += [f"## {number}. {question.title}", f"> {question.text}"]
        own = of_question(found, question.experiments)
        for name in dict.fromkeys(one.name for one in own):
            first, *again = [one for one in own if one.name == name]
            figures = question.figures.get(name, ())
            lines += [f"### {first.title}", *entry(first, figures)]
            if again:
                lines.append(REPEATED)
            for one in again:
                lines += folded(one, figures)
        if not own:
            lines.append("No experiment has answered this yet.")
    rest = [one for one in found if not any(one.name in q.experiments for q in QUESTIONS)]
    if rest:
        lines.append("## Other experiments")
        for one in rest:
            lines += [f"### {one.title}", *entry(one)]
    return "\n\n".join(lines) + "\n"


def write(root: Path) -> Path:
    """Writes the README; returns its path."""
    path = root / "README.md"
    path.write_text(text(root), encoding="utf-8")
    return path


def of_question(found: list[Answered], names: tuple[str, ...]) -> list[Answered]:
    """The experiments of these names, in their order."""
    return [one for name in names for one in found if one.name == name]


def entry(one: Answered, names: tuple[str, ...] = ()) -> list[str]:
    """Answer in short, figures of these names (else the first) and link of an experiment."""
    lines = [one.short] if one.short else []
    shown = [path for path in one.figures if path.stem in names] or one.figures[:1]
    lines += [f"![{in_words(figure)}]({one.where}/{figure.name})" for figure in shown]
    lines.append(f"[The whole answer of {one.where}, with its numbers]({one.where}/answer.md)")
    return lines


def folded(one: Answered, names: tuple[str, ...] = ()) -> list[str]:
    """The entry of an experiment as a line that opens: where it is, and the first thing that it says."""
    said = one.short.splitlines()[:1] or ["its answer is a table"]
    summary = f"<summary><b>{one.where}</b>: {said[0].removeprefix('- ')}</summary>"
    return [f"<details>{summary}", *entry(one, names), "</details>"]


def in_words(figure: Path) -> str:
    """What a figure shows, from its name."""
    return figure.stem.replace("-", " ").replace("_", " ")
