"""Progress: a bar over all runs of a comparison."""

import rich.console
import rich.progress


class Progress(rich.progress.Progress):
    """A bar over the runs of a comparison, which may become more as its grid grows.

    Args:
        name: What is compared.
        total: Runs in all, as far as is known.
        done: Runs that are over already.
        verbose: Whether it is shown.
    """

    def __init__(self, name: str, total: int, done: int, verbose: int):
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
        self._total, self._over = total, done
        self._bar = self.add_task(f"{name}: runs", total=max(total, done), completed=done)

    def one_more(self) -> None:
        """One more run is over."""
        self._over += 1
        self.update(self._bar, completed=self._over, total=max(self._total, self._over))
