"""Clusters: workers on other machines, by Dask or Ray."""

import collections
import re
import uuid
from concurrent.futures import CancelledError, Future
from typing import Any
from urllib.parse import urlsplit

import cloudpickle

from layerwise.comparison import frames
from layerwise.comparison.agenda import Run
from layerwise.comparison.grid import Grid
from layerwise.comparison.worker import Worker, begin, carry_out, end
from layerwise.comparison.workers import THREADS, Workers, take_share

GPU = "GPU"  # the resource that a worker of a cluster declares where it has one


class DaskWorkers(Workers):
    """The workers of a Dask cluster; where some have a GPU, these."""

    def __init__(self, grid: Grid, address: str):
        from dask.distributed import Client, KilledWorker

        self._client = Client(f"tcp://{address}", set_as_default=False)
        self.lost = (KilledWorker, CancelledError)
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        if not known:
            raise ConnectionError("its scheduler has no workers")
        with_gpu = [name for name, worker in known.items() if worker["resources"].get(GPU)]
        self._executors = [
            # Of a worker that is gone, another takes the number.
            self._client.get_executor(
                pure=False,
                workers=[name],
                allow_other_workers=True,
                resources={GPU: 1} if with_gpu else None,
            )
            for name in with_gpu or known
        ]
        self.count = len(self._executors)
        beside = collections.Counter(_host(name) for name in with_gpu or known)
        for name in with_gpu or known:
            self._client.run(take_share, beside[_host(name)], workers=[name])
        self.environment = self._executors[0].submit(frames.environment).result()
        self._comparison = uuid.uuid4().hex
        stored = cloudpickle.dumps(grid)
        plugin = _plugin(beside, self._comparison, stored, self.count, self.environment)
        self._client.register_plugin(plugin, name=self._comparison)

    def submit(self, number: int, run: Run) -> Future:
        return self._executors[number].submit(carry_out, run, self._comparison)

    def __exit__(self, *exception):
        self._client.unregister_worker_plugin(self._comparison)
        self._client.close()


def _host(worker):
    """The host of a Dask worker's address."""
    return urlsplit(worker).hostname


def _plugin(beside, comparison, *arguments):
    """What Dask sends once to each worker, also to those that come later; `beside`: how many a host has."""
    from dask.distributed import WorkerPlugin

    class Comparison(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            take_share(beside.get(_host(worker.address), 1))
            begin(comparison, *arguments)

        def teardown(self, worker: Any) -> None:
            end(comparison)

    return Comparison()


class RayWorkers(Workers):
    """Actors of a Ray cluster: one for each GPU, or for each core where there is none."""

    def __init__(self, grid: Grid, address: str):
        import ray

        self._ray = ray
        _connect(ray, address)
        self.lost = (ray.exceptions.RayActorError,)
        resources = ray.cluster_resources()
        gpus = int(resources.get(GPU, 0))
        self.count = gpus or int(resources["CPU"])
        each: Any = {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
        if not gpus:  # as many workers as cores
            each["runtime_env"] = {"env_vars": dict.fromkeys(THREADS, "1")}
        self.environment: Any = ray.get(ray.remote(**each)(frames.environment).remote())
        actor: Any = ray.remote(**each, max_restarts=-1)(Worker)
        stored = ray.put(grid)
        self._actors = [
            actor.remote(stored, self.count, self.environment) for _ in range(self.count)
        ]
        ray.get([one.environment.remote() for one in self._actors])  # or raises what is wrong

    def submit(self, number: int, run: Run) -> Future:
        return self._actors[number].carry_out.remote(run).future()

    def __exit__(self, *exception):
        for actor in self._actors:
            self._ray.kill(actor)
        self._ray.shutdown()


def _connect(ray: Any, address: str, attempts: int = 3) -> None:
    """Connect to a Ray cluster, which forks a server for each client while its threads use gRPC: few forks crash, and on a
    busy machine a session may be over before it has begun.
    """
    for left in reversed(range(attempts)):
        try:
            ray.init(f"ray://{address}")
            return
        except ConnectionError as error:
            answered = isinstance(error, ConnectionAbortedError) or "disconnected" in str(error)
            if not (answered and left):
                raise


def cluster_workers(grid: Grid, cluster: str) -> Workers:
    """The workers of the cluster at an address, "dask://HOST:PORT" or "ray://HOST:PORT".

    Raises:
        ImportError: The cluster's library is missing.
        ConnectionError: No such cluster answers there.
    """
    name, _, address = cluster.partition("://")
    try:
        return {"dask": DaskWorkers, "ray": RayWorkers}[name](grid, address)
    except ImportError as error:
        raise ImportError(
            f"cluster={cluster!r} needs {error.name}: pip install 'layerwise[{name}]', here and on all workers."
        ) from error
    except OSError as error:
        raise ConnectionError(
            f"cluster={cluster!r}: no {name} cluster answers there ({error}). Start it, correct the address, or "
            "give what it asks for (Ray: RAY_AUTH_MODE=token)."
        ) from error


def check_cluster(cluster: str | None, jobs: int) -> None:
    """Raises ValueError for what is no address of a cluster, or beside `jobs`."""
    if cluster is None:
        return
    if not isinstance(cluster, str) or not re.fullmatch(r"(dask|ray)://[^/:]+:\d+", cluster):
        raise ValueError(
            f"cluster must be 'dask://HOST:PORT' or 'ray://HOST:PORT', or None, got {cluster!r}."
        )
    if jobs != 1:
        raise ValueError(
            f"a cluster has as many workers as it has, and jobs are processes of this machine: give cluster={cluster!r} or "
            f"jobs={jobs}, not both."
        )
