"""What README.md shows runs: Python blocks in order in one session, and bash blocks marked quick.

The blocks ```bash setup and ```bash test take minutes: ``.ci/run`` runs those. Blocks without a mark take hours: their
command lines are parsed.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness import command
from tests.readme import README, blocks


@pytest.mark.parametrize("block", [("bash", "setup"), ("bash", "test"), ("python", "")])
def test_readme_has_the_blocks_that_are_run(block):
    assert blocks(*block)


# The README compares two learning rates, and is told that the best may lie beyond.
@pytest.mark.filterwarnings("ignore:The tuned learning rate lies at the edge:UserWarning")
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for number, code in enumerate(blocks("python"), start=1):
        exec(compile(code, f"README.md, Python block {number}", "exec"), namespace)


@pytest.mark.parametrize("code", blocks("bash", "quick"))
def test_quick_bash_blocks_run(code):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = ["bash", "-euo", "pipefail", "-c", code]
    result = subprocess.run(
        command, cwd=README.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_long_commands_are_understood(monkeypatch):
    understood = []
    monkeypatch.setattr(command, "run", understood.append)
    for line in blocks("bash")[0].replace("\\\n", " ").splitlines():
        *_, arguments = line.partition("python -m experiments")
        command.main(shlex.split(arguments, comments=True))
    assert [(options.name, options.scale) for options in understood] == [
        ("convergence", "full"),
        ("convergence", "full"),
        ("cost", "full"),
        ("published", "full"),
    ]
