"""The page and the README of the results: made from files, complete, and usable in a browser."""

import html.parser
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.harness import command
from experiments.harness.report import overview, page

RESULTS = Path(__file__).parents[3] / "results"
EMPTY = {"meta", "link", "br", "img", "input", "line", "hr"}
ANSWER = """**In short.** Greedy costs 12.5 times as much.

![a picture](picture.png)

| schedule | cost |
| --- | --- |
| simultaneous | 9 |
| cyclic | 12.5 [3, ∞] |
| greedy | missed |
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results with one comparison, in which a run diverged, and one experiment without runs."""
    root = tmp_path_factory.mktemp("results")
    for name in ("convergence", "quick/convergence", "linearity"):
        (root / name).mkdir(parents=True)
        (root / name / "answer.md").write_text(ANSWER if name != "linearity" else "Yes <b>.\n")
    folder = root / "convergence"
    from PIL import Image

    Image.new("RGB", (1500, 20), "red").save(folder / "picture.png")
    task = {"dataset": "digits", "model": "mlp", "optimizer": "SGD", "regularizer": "none"}
    names = ["simultaneous", "cyclic", "simultaneous", "cyclic"]
    runs = pd.DataFrame({**task, "schedule": names, "run_id": list("abcd")})
    runs = runs.assign(learning_rate=0.1, seed=[0, 0, 1, 1], phase="measure", tuned_for="score")
    runs["status"] = ["finished", "finished", "diverged", "finished"]
    runs["error"] = ["", "", "the loss became NaN", ""]
    runs = runs.assign(
        backend="jax", device="cpu", layerwise_version="1", keras_version="3", git_commit="abc"
    )
    runs.to_csv(folder / "runs.csv", index=False)
    curve = {
        "epoch": [0, 1, 2],
        "update": [0, 10, 20],
        "examples": [0, 640, 1280],
        "flops": [0, 5, 10],
    }
    curve |= {"train_seconds": [0.0, 1.0, 2.0], "loss": [2.0, 1.0, 0.5], "score": [0.1, 0.5, 0.9]}
    curves = [
        pd.DataFrame(curve).assign(run_id=run, split=s)
        for run in "abcd"
        for s in ("train", "validation", "test")
    ]
    pd.concat(curves).to_parquet(folder / "curves.parquet")
    summary = pd.DataFrame(
        {**task, "schedule": names[:2], "tuned_for": "cost", "reach_rate": [1.0, 0.0]}
    )
    for end, values in {
        "median": [5.0, None],
        "low": [4.0, None],
        "high": [float("inf"), None],
    }.items():
        summary[f"flops_to_target_{end}"] = values
    summary.to_csv(folder / "summary.csv", index=False)
    return root


class Reader(html.parser.HTMLParser):
    """Checks that tags are closed in order, and keeps what was met."""

    def __init__(self, text):
        super().__init__()
        self.open, self.met = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.met.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.met.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.met if name == tag]


def test_the_page_is_whole_and_needs_no_network(results):
    text = page.html(results)
    read = Reader(text)
    assert not read.open
    sources = [a.get("src", "") for _, a in read.met] + [a["href"] for a in read.all("link")]
    assert all(source.startswith("data:") for source in sources if source)
    assert not any(a["href"].startswith("http") for a in read.all("a"))
    targets = {a["id"] for _, a in read.met if "id" in a}
    assert {a["href"][1:] for a in read.all("a") if a["href"].startswith("#")} <= targets
    assert len(targets) == sum("id" in a for _, a in read.met)
    assert all(a.get("alt") for a in read.all("img")) and read.all("img")
    assert "the loss became NaN" in text and "Yes &lt;b&gt;." in text
    assert "quick" not in text


def test_the_readme_of_the_results_is_written_from_the_answers(results, capsys):
    command.main(["report", "--results", str(results)])
    text = (results / "README.md").read_text()
    assert text == overview.text(results)
    assert "Greedy costs 12.5 times as much." in text
    assert "](convergence/picture.png)" in text and "](linearity/answer.md)" in text
    assert text.count("No experiment has answered this yet.") == 2
    assert capsys.readouterr().out.count("written:") == 2


def test_the_committed_readme_is_that_of_the_committed_answers():
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == overview.text(RESULTS)


def test_without_answers_there_is_no_report(tmp_path):
    with pytest.raises(SystemExit, match="Carry out an experiment first"):
        command.main(["report", "--results", str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(results, scheme):
    """Needs `pip install playwright` and a Chromium on the path."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    path = page.write(results)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 740})
        said, asked = [], []
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(path.as_uri())
        table = shown.locator(".answer table").first

        def costs():
            return table.locator("tbody td:nth-child(2)").all_text_contents()

        heading = table.get_by_role("button", name="cost")
        heading.click()
        assert costs() == ["9", "12.5 [3, ∞]", "missed"]
        heading.click()
        assert costs() == ["missed", "12.5 [3, ∞]", "9"]
        assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
        before = shown.locator("#plot polyline").first.get_attribute("points")
        shown.get_by_label("Clock").select_option("train_seconds")
        shown.get_by_label("Measure").select_option("loss")
        assert (
            shown.locator("#plot-title").text_content().startswith("validation loss over seconds")
        )
        assert shown.locator("#plot polyline").first.get_attribute("points") != before
        shown.get_by_role("checkbox", name="cyclic").uncheck()
        assert shown.locator("#plot polyline").count() == 1
        assert shown.locator("#curve-table tbody tr").count() == 1
        # The answers in short are read without scrolling to the right.
        answer = shown.locator("#verdicts tbody td:nth-child(3)").first.bounding_box()
        assert answer["x"] >= 0 and answer["x"] + answer["width"] <= 360
        # Nothing but tables, which scroll by themselves, is wider than a phone.
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360
        background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
        assert not said
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        browser.close()
