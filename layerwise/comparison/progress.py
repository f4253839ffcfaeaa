"""Progress: a bar over all runs of a comparison."""

import threading
from typing import Any

import rich.console
import rich.progress


class Progress(rich.progress.Progress):
    """A bar that follows the journal, which several processes write to."""

    def __init__(self, grid: Any, journal: Any, done: int, verbose: int):
        console = rich.console.Console()
        super().__init__(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not verbose or not console.is_terminal,
        )
        self._bar = self.add_task(f"{grid.experiment}: runs", total=grid.n_runs())
        self._journal, self._done, self._over = journal, done, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return super().__enter__()

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        super().__exit__(*exception)

    def _follow(self):
        while not self._over.wait(0.5):
            self.update(self._bar, completed=self._done + len(self._journal))
        self.update(self._bar, completed=self._done + len(self._journal))
