"""results/README.md: the questions, what each experiment answers, a figure of it, and where to read on."""

from pathlib import Path

from experiments.harness.report.collect import Answered, find
from experiments.harness.report.questions import QUESTIONS

TITLE = "# Four questions, answered by measurement"
NOTE = "Written by `python -m experiments report` from the answers; the same as one page: [index.html](index.html)."


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
        for one in own:
            lines += entry(one, question.figures.get(one.name, ()))
        if not own:
            lines.append("No experiment has answered this yet.")
    rest = [one for one in found if not any(one.name in q.experiments for q in QUESTIONS)]
    if rest:
        lines.append("## Other experiments")
        for one in rest:
            lines += entry(one)
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
    """Heading, answer in short, figures of these names (else the first) and link of an experiment."""
    lines = [f"### {one.where}"]
    if one.short:
        lines.append(one.short)
    shown = [path for path in one.figures if path.stem in names] or one.figures[:1]
    lines += [f"![{in_words(figure)}]({one.where}/{figure.name})" for figure in shown]
    lines.append(f"[The whole answer, with its numbers]({one.where}/answer.md)")
    return lines


def in_words(figure: Path) -> str:
    """What a figure shows, from its name."""
    return figure.stem.replace("-", " ").replace("_", " ")
