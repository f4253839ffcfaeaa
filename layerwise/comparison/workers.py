"""Workers: where the runs of a comparison are carried out: in this process or in others beside it."""

import contextlib
import os
import threading
import time
import uuid
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import cloudpickle
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor, process_executor

from layerwise.comparison import frames
from layerwise.comparison.agenda import Run
from layerwise.comparison.grid import Grid
from layerwise.comparison.worker import Worker, begin, carry_out

# What the backends take their number of threads from; PJRT_NPROC is XLA's, whose pool otherwise has one for each core.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "PJRT_NPROC")

# A worker that has grown by so much is replaced between two runs, and with it all that it has imported and compiled. joblib
# would replace it after 0.3 GB, which compiled programs take in a minute, and looks every second.
GROWTH_BYTES, LOOK_SECONDS = 2 * 2**30, 60


class Workers(contextlib.AbstractContextManager):
    """Several workers of one grid, known by their numbers: each is given one run at a time and hands its result back.

    Leaving the context lets all of them go, also those that are at a run.

    Attributes:
        count: How many there are.
        environment: Their backend and device.
        lost: What the future of a run raises when its worker is gone; another is then there under its number.
    """

    count: int
    environment: dict[str, str]
    lost: tuple[type[Exception], ...] = ()

    def submit(self, number: int, run: Run) -> Future:
        """Gives a worker a run; the future brings its `worker.Result`."""
        raise NotImplementedError

    def rest(self) -> None:
        """Lets go of all that takes memory or time here; no run is submitted any more."""

    def __exit__(self, *exception: object) -> None:
        """Lets all workers go."""
        self.rest()


class Here(Workers):
    """This process."""

    count = 1

    def __init__(self, grid: Grid):
        self.environment = frames.environment()
        self._worker = Worker(grid, 1, self.environment)

    def submit(self, number: int, run: Run) -> Future:
        future: Future = Future()
        future.set_result(self._worker.carry_out(run))
        return future


class Processes(Workers):
    """Processes beside this one, each an executor of its own, so that one that is killed takes no other with it."""

    lost = (BrokenExecutor,)

    def __init__(self, grid: Grid, count: int):
        self.count, self.environment = count, frames.environment()
        self._env = {name: os.environ.get(name, value) for name, value in share(count).items()}
        self._comparison = uuid.uuid4().hex
        self._arguments = self._comparison, cloudpickle.dumps(grid), count, self.environment
        # A process that starts makes its parent wait until it has imported what it needs: all do so at the same time.
        with ThreadPoolExecutor(count) as starting:
            self._executors = list(starting.map(lambda _: self._start(), range(count)))

    def submit(self, number: int, run: Run) -> Future:
        try:
            return self._executors[number].submit(carry_out, run, self._comparison)
        except BrokenExecutor:
            self._executors[number] = self._start()
            return self._executors[number].submit(carry_out, run, self._comparison)

    def rest(self) -> None:
        for executor in self._executors:
            executor.shutdown(wait=True, kill_workers=True)
        self._executors = []

    def _start(self):
        arguments = os.getpid(), *self._arguments
        started = ProcessPoolExecutor(1, initializer=_begin, initargs=arguments, env=self._env)
        started.submit(_nothing)  # the first call starts the process
        return started


def share(count: int) -> dict[str, str]:
    """Environment variables that give each of `count` processes of this machine its share of the cores, as threads."""
    return dict.fromkeys(THREADS, str(max(1, cpu_count() // count)))


def take_share(count: int) -> None:
    """Gives this process its share, but for what its environment says already; read when a backend first computes."""
    for name, value in share(count).items():
        os.environ.setdefault(name, value)


def _nothing():
    """A first call."""


def _begin(parent, *arguments):
    """Begins in a process that ends with the one it was started by, however that ends."""
    process_executor._MAX_MEMORY_LEAK_SIZE = GROWTH_BYTES
    process_executor._MEMORY_LEAK_CHECK_DELAY = LOOK_SECONDS

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    begin(*arguments)


def local_workers(grid: Grid, jobs: int) -> Workers:
    """This process alone, or so many beside it."""
    return Here(grid) if jobs == 1 else Processes(grid, jobs)
