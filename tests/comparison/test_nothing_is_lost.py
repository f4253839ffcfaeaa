"""Whatever is killed, damaged or full: every finished run is kept, none counts twice, and the end is the same."""

import errno
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from layerwise.comparison import Comparison, frames, journal, lock, trainer
from tests.comparison import disturbed

pytestmark = pytest.mark.filterwarnings("ignore:What was tuned lies")
# To kill more often by hand: KILLS=20 python -m pytest -m slow tests/comparison/test_nothing_is_lost.py
KILLS = int(os.environ.get("KILLS", "2"))


@pytest.fixture(scope="module")
def undisturbed():
    return disturbed.compare()


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Return a folder of a comparison that was interrupted after six runs."""
    interrupt_at(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as stopped:
        disturbed.compare(tmp_path)
    assert stopped.value.__notes__ == [
        f"Every run that was over is kept in {tmp_path}: the same call goes on from there."
    ]
    monkeypatch.undo()
    return tmp_path


def interrupt_at(count, monkeypatch):
    stock, ran = trainer.Trainer.run, []

    def run(self, *arguments):
        ran.append(arguments)
        if len(ran) > count:
            raise KeyboardInterrupt
        return stock(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "run", run)


def children(pid):
    """The worker processes of a comparison."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], stdout=subprocess.PIPE)
    lines = found.stdout.decode().splitlines()
    return [int(line.split()[0]) for line in lines if "LokyProcess" in line]


def is_there(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


MANY = {"seeds": 8 + 3 * KILLS}  # so that there is something left to kill


@pytest.fixture(scope="module")
def never_killed():
    return disturbed.compare(**MANY)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_kills_at_random_moments(jobs, tmp_path, never_killed):
    chance, killed, started = random.Random(jobs), 0, {}
    process, workers = disturbed.start(tmp_path, jobs=jobs, **MANY), set()
    for _ in range(KILLS):
        before = disturbed.kept(tmp_path)
        if chance.random() < 0.7:  # else while it starts, or goes on
            disturbed.wait_for_runs(tmp_path, len(before) + 1, process)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None
        before = disturbed.kept(tmp_path)
        found = children(process.pid)
        workers |= set(found)
        victim = chance.choice([process.pid, *found])
        os.kill(victim, signal.SIGKILL)
        killed += 1
        if victim == process.pid:
            process.wait()
            assert before <= disturbed.kept(tmp_path)
            started |= dict(frames.read(tmp_path)[0][["run_id", "started_at"]].to_numpy())
            process = disturbed.start(tmp_path, jobs=jobs, **MANY)
    assert process.wait() == 0
    found = Comparison.load(tmp_path)
    disturbed.assert_same(found, never_killed, [*disturbed.NOT_REPEATED, "jobs"])
    assert set(found.runs["jobs"]) == {jobs}
    assert started.items() <= dict(found.runs[["run_id", "started_at"]].to_numpy()).items()
    assert not (tmp_path / "unfinished").exists()
    assert killed == KILLS
    for _ in range(60):
        if not any(map(is_there, workers)):
            break
        time.sleep(0.5)
    else:
        raise AssertionError("a worker ends with its comparison")


@pytest.mark.slow
def test_what_was_interrupted_within_a_round_of_tuning_goes_on_as_if_it_had_not_been(
    tmp_path, monkeypatch, undisturbed
):
    for count in (1, 2, 2):
        interrupt_at(count, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            disturbed.compare(tmp_path)
        monkeypatch.undo()
    disturbed.assert_same(disturbed.compare(tmp_path), undisturbed)


@pytest.mark.slow
def test_a_truncated_file_is_named_and_its_run_repeated(interrupted, undisturbed):
    # As if it had been killed before the frames were written.
    for name in ("runs.csv", "curves.parquet"):
        (interrupted / name).unlink()
    victim = sorted(interrupted.glob("unfinished/*.json"))[2]
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.warns(UserWarning, match=f"{victim.name} is damaged.*its run is carried out again"):
        found = disturbed.compare(interrupted)
    disturbed.assert_same(found, undisturbed)
    assert victim.with_suffix(".damaged").exists()


@pytest.mark.thorough
def test_a_second_comparison_on_a_folder_is_refused_and_the_first_named(interrupted):
    with lock.alone_in(interrupted), pytest.raises(RuntimeError) as refused:
        disturbed.compare(interrupted)
    text = str(refused.value)
    assert f"{interrupted} is in use by another comparison: process {os.getpid()} on " in text
    assert "started 20" in text


# A process that has the lock and nothing else: the file by itself, as the package would load a backend.
LOCK = f"import os, runpy, sys, pathlib; alone_in = runpy.run_path({lock.__file__!r})['alone_in']\n"


def test_the_first_is_named_before_it_has_written_anything_else(tmp_path):
    code = (
        LOCK + "with alone_in(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "in\n"
    with pytest.raises(RuntimeError, match=f"process {first.pid} on "), lock.alone_in(tmp_path):
        pass
    first.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_lock_of_a_dead_process_keeps_nobody_out(tmp_path):
    code = LOCK + "with alone_in(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert (tmp_path / ".lock").exists()
    with lock.alone_in(tmp_path):
        pass


@pytest.fixture
def small_disk(tmp_path):
    """Return a file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_loses_no_finished_run(small_disk, undisturbed):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(988 * 1024))
    folder = small_disk / "results"
    with pytest.raises(OSError) as stopped:
        disturbed.compare(folder)
    assert stopped.value.errno == errno.ENOSPC
    assert "the same call goes on from there" in stopped.value.__notes__[0]
    kept = disturbed.kept(folder)
    assert 0 < len(kept) < len(undisturbed.runs)
    ballast.unlink()
    found = disturbed.compare(folder)
    disturbed.assert_same(found, undisturbed)
    assert kept <= set(found.runs["run_id"])


def test_a_file_that_does_not_fit_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self, text):
        with open(self, "w") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        journal.Journal(tmp_path).add({"run_id": "a"}, frames.curve_frame([]))
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_no_pickle_is_read_from_a_results_folder(interrupted, monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refused)
    frames.read(interrupted)
    journal.Journal(interrupted / "unfinished").rows()
    Comparison.load(interrupted)
