"""Tables of README.md, written from the answers of experiments: no number of them is typed by hand.

Between `<!-- PATH/answer.md: TITLE -->` and `<!-- end -->` stands the part of that answer that begins with `**TITLE**`.
"""

import re
from pathlib import Path

_MARKED = re.compile(
    r"(?P<begin><!-- (?P<path>\S+/answer\.md): (?P<title>[^\n]+?) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)


def write(path: Path) -> bool:
    """Writes the marked tables of a file again; returns whether anything changed.

    Args:
        path: The file; the paths of its marks begin at its folder.

    Raises:
        FileNotFoundError: There is no such answer.
        ValueError: An answer has no part of that title.
    """
    text = path.read_text(encoding="utf-8")
    found = filled(text, path.parent)
    if found != text:
        path.write_text(found, encoding="utf-8")
    return found != text


def filled(text: str, root: Path) -> str:
    """A text with what the answers below `root` say between its marks."""

    def table(mark):
        answer = (root / mark["path"]).read_text(encoding="utf-8")
        return f"{mark['begin']}{part(answer, mark['title'], mark['path'])}\n{mark['end']}"

    return _MARKED.sub(table, text)


def part(answer: str, title: str, path: str = "the answer") -> str:
    r"""The part of an answer that a title in bold begins.

    Example:
    >>> from experiments.harness.readme import part
    >>> part("**a** (x)\n\n1\n\n**b** (y)\n\n2\n", "b")
    '**b** (y)\n\n2'
    """
    for one in re.split(r"^(?=\*\*)", answer, flags=re.MULTILINE):
        if one.startswith(f"**{title}**"):
            return one.strip()
    raise ValueError(f"{path} has no part that begins with **{title}**")
