"""Real clusters on this machine: a comparison there says what a serial one says."""

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import pytest

from layerwise.comparison import Comparison
from layerwise.comparison.clusters import _connect, check_cluster
from tests.comparison import disturbed

NOT_REPEATED = [*disturbed.NOT_REPEATED, "jobs"]


@pytest.fixture(scope="module", params=["dask", "ray"])
def cluster(request):
    """Return a cluster's process and its address."""
    with started(request.param) as found:
        yield found


@contextlib.contextmanager
def started(kind):
    name = kind.partition("_")[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        # A token of its own, which the cluster and what connects to it inherit, and not one of the user's.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.clusters", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process.stdout:
            address = process.stdout.readline().strip()
        assert address.startswith(f"{name}://")
        yield process, address
        process.stdin.close()
        assert process.wait(120) == 0


@pytest.fixture(scope="module")
def serial():
    return disturbed.compare()


@pytest.mark.slow
def test_a_cluster_says_what_a_serial_comparison_says(cluster, serial, tmp_path):
    assert disturbed.start(tmp_path, cluster=cluster[1]).wait() == 0
    found = Comparison.load(tmp_path)
    disturbed.assert_same(found, serial, NOT_REPEATED)
    assert set(found.runs["jobs"]) == {2}
    compiled = found.runs[found.runs["compile_seconds"] > 0].groupby("schedule").size()
    assert (compiled <= 2).all(), "programs are compiled once for each worker and cell"
    sent = (tmp_path / "sent").read_text().split()
    # Once to each worker; Ray's client server looks at it, too.
    assert len(set(sent)) == len(sent) == (3 if cluster[1].startswith("ray") else 2)
    if cluster[1].startswith("dask") and keras.backend.backend() == "jax":  # Ray's are gone
        assert [threads_of_xla(worker) for worker in sent] == 2 * [max(1, os.cpu_count() // 2)]


def threads_of_xla(process):
    """Return how many threads a process has in XLA's pool."""
    names = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/comm")]
    return sum("XLAEigen" in name for name in names)


@pytest.mark.slow
def test_what_a_lost_worker_was_at_goes_to_another(cluster, serial, tmp_path):
    process = disturbed.start(tmp_path, cluster=cluster[1])
    disturbed.wait_for_runs(tmp_path, 3, process)
    before = set(disturbed.kept(tmp_path))
    worker = int((tmp_path / "sent").read_text().split()[-1])
    os.kill(worker, signal.SIGKILL)
    assert process.wait() == 0
    found = Comparison.load(tmp_path)
    disturbed.assert_same(found, serial, NOT_REPEATED)
    assert before <= set(found.runs["run_id"])


@pytest.mark.slow
def test_where_a_worker_has_a_gpu_no_run_goes_to_one_without(serial, tmp_path):
    with started("dask_with_gpu") as (_, address):
        assert disturbed.start(tmp_path, cluster=address).wait() == 0
    found = Comparison.load(tmp_path)
    disturbed.assert_same(found, serial, NOT_REPEATED)
    assert set(found.runs["jobs"]) == {1}
    assert len((tmp_path / "sent").read_text().split()) == 1


@pytest.mark.parametrize(
    "cluster, jobs, message",
    [
        ("localhost:8786", 1, "must be 'dask://HOST:PORT' or 'ray://HOST:PORT'"),
        ("dask://localhost", 1, "got 'dask://localhost'"),
        (8786, 1, "got 8786"),
        ("ray://localhost:10001", 2, "not both"),
    ],
)
def test_what_is_no_cluster_is_refused_before_anything_is_trained(cluster, jobs, message):
    with pytest.raises(ValueError, match=message):
        check_cluster(cluster, jobs)


CRASHED = ConnectionAbortedError("Starting Ray client server failed")
OVER = ConnectionError("the Ray client has already been disconnected due to an error")


@pytest.mark.parametrize(
    "errors, calls",
    [
        ([], 1),
        ([CRASHED, OVER], 3),
        ([CRASHED] * 3, 3),
        ([ConnectionError("ray client connection timeout")], 1),
    ],
)
def test_a_client_server_that_breaks_down_at_its_start_is_asked_for_again(errors, calls):
    ray = mock.Mock()
    ray.init.side_effect = [*errors, None]
    if len(errors) == calls:
        with pytest.raises(ConnectionError, match=str(errors[-1])):
            _connect(ray, "localhost:10001")
    else:
        _connect(ray, "localhost:10001")
    assert ray.init.call_args_list == [mock.call("ray://localhost:10001")] * calls
