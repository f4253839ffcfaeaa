"""Answers in Markdown as HTML whose figures stand in the page itself."""

import base64
import io
from pathlib import Path

from markdown_it import MarkdownIt
from PIL import Image

WIDEST, COLORS = 1100, 96
DEEPER = 3  # an answer's first heading is below that of its experiment


def to_html(text: str, folder: Path) -> str:
    r"""HTML of an answer; raw HTML in it is shown as text.

    Args:
        text: Markdown.
        folder: Where its figures are. One that is missing is left to its name.

    Example:
    >>> from pathlib import Path
    >>> from experiments.harness.report.markdown import to_html
    >>> to_html("# Yes\n\n**7** of 10 <b>", Path("."))
    '<h4>Yes</h4>\n<p><strong>7</strong> of 10 &lt;b&gt;</p>\n'
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + DEEPER)}"
        for child in token.children or []:
            if child.type == "image":
                path = folder / str(child.attrs["src"])
                child.attrs["src"] = embedded(path) if path.exists() else ""
    return parser.renderer.render(tokens, parser.options, {})


def embedded(path: Path) -> str:
    """A figure as a data URI, at most `WIDEST` pixels wide and of `COLORS` colours."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        if small.width > WIDEST:
            small = small.resize(
                (WIDEST, round(small.height * WIDEST / small.width)), Image.LANCZOS
            )
        kept = io.BytesIO()
        small.quantize(COLORS).save(kept, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(kept.getvalue()).decode()}"
