"""The fenced blocks of README.md, so that what the README tells a user to run is what gets run.

``python tests/readme.py setup`` prints the block that opens with ```bash setup, for ``.ci/run``.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def blocks(language, label=""):
    """Return the code of every block that opens with three backticks, language and label."""
    fence = re.compile(r"^```([^\n]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
    text = README.read_text() if README.exists() else ""
    return [
        code for info, code in fence.findall(text) if info.split() == [language, *label.split()]
    ]


if __name__ == "__main__":
    found = blocks("bash", sys.argv[1])
    if not found:
        sys.exit(f"README.md has no block that opens with ```bash {sys.argv[1]}")
    print("\n".join(found))
