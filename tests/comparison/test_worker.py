"""What a worker does beside its runs."""

import platform
from pathlib import Path

import pytest

from layerwise.comparison import frames, worker
from layerwise.comparison.agenda import Agenda
from tests.comparison import problems


@pytest.mark.thorough
def test_memory_is_given_back_after_a_run_that_compiled(monkeypatch):
    grid = problems.grid({"simultaneous": problems.SCHEDULES["simultaneous"]})
    environment, given = frames.environment(), []
    monkeypatch.setattr(worker, "give_back", lambda: given.append(len(seconds)))
    agenda, ours = Agenda(grid, [], environment), worker.Worker(grid, 1, environment)
    seconds = []
    for _ in range(2):
        row, *_ = ours.carry_out(agenda.take(0))
        seconds.append(row["compile_seconds"])
    assert given == [0] and seconds[0] > 0 == seconds[1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_that_something_lies_behind_is_given_back():
    def resident():
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 2**10

    blocks = [b"x" * 2**16 for _ in range(4000)]  # 250 MiB
    behind = blocks.pop()
    del blocks
    before = resident()
    worker.give_back()
    assert resident() < before - 200
    assert len(behind) == 2**16
