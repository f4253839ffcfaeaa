"""results/index.html: everything that the results hold, on one page that needs no network."""

import json
from pathlib import Path

import jinja2

from experiments.harness.report import charts, collect, curves, markdown, overview
from experiments.harness.report.questions import QUESTIONS

HERE = Path(__file__).parent
MOST_FIGURES = 12  # of an experiment, embedded; further ones are links


def write(root: Path) -> Path:
    """Writes the page of a folder of results; returns its path.

    Raises:
        FileNotFoundError: There are no answers.
    """
    path = root / "index.html"
    path.write_text(html(root), encoding="utf-8")
    return path


def html(root: Path) -> str:
    """The page."""
    found = collect.find(root)
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    named = {name for question in QUESTIONS for name in question.experiments}
    sections = [
        {
            "question": question,
            "experiments": [
                _shown(one) for one in overview.of_question(found, question.experiments)
            ],
        }
        for question in QUESTIONS
    ]
    explored = [task for one in found if one.is_comparison for task in curves.of(one)]
    page = environment.get_template("page.html").render(
        sections=sections,
        others=[_shown(one) for one in found if one.name not in named],
        # "</" would end the script that holds the curves.
        curves=json.dumps(explored, separators=(",", ":")).replace("</", "<\\/"),
        has_curves=bool(explored),
        unfinished=collect.unfinished(found).to_dict("records"),
        provenance=collect.provenance(found).to_dict("records"),
        settings=[(one.where, json.dumps(one.settings, indent=1)) for one in found if one.settings],
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )
    return page


def _shown(one):
    """What the page shows of an experiment."""
    in_answer = set(one.figures[: one.text.count("![")])
    more = [path for path in one.figures if path not in in_answer]
    # The charts and the curves of a comparison are drawn by the page itself.
    embedded = [] if one.is_comparison else more[:MOST_FIGURES]
    return {
        "name": one.name,
        "where": one.where,
        "short": markdown.to_html(one.short, one.folder),
        "answer": markdown.to_html(one.text, one.folder),
        "charts": charts.of(one) if one.is_comparison else [],
        "figures": [(overview.in_words(path), markdown.embedded(path)) for path in embedded],
        "links": [
            (overview.in_words(path), f"{one.where}/{path.name}")
            for path in more
            if path not in embedded
        ],
    }
