"""badam: the published torch implementation of block-coordinate Adam (Luo, Yu & Li, NeurIPS 2024), in plain torch.

It runs in a process of its own, as its users have it, without Keras: it collects garbage at every switch, which takes the
longer the more a process has imported.
"""

import contextlib
import io
import itertools
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence

DEFAULT_VISIT = 50  # steps, where its users say nothing else


class Badam:
    """A torch network of dense layers with ReLU between them, trained by `badam.BlockOptimizer`; a layer is a block.

    Args:
        widths: Units of the input and of each layer.
        batch_size: Examples in a batch.
        steps: Timed steps of an epoch.
        every: Steps of a visit.

    Raises:
        ImportError: badam is not installed.
    """

    def __init__(self, widths: Sequence[int], batch_size: int, steps: int, every: int):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it expects 16-bit weights
            self._build(torch, widths, batch_size, steps, every)

    def _build(self, torch, widths, batch_size, steps, every):
        try:
            from badam import BlockOptimizer
        except ImportError as error:
            raise ImportError(
                "The baseline is the published torch implementation: pip install -e '.[baselines]'."
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        layers = {}
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            layers[f"dense{number}"] = torch.nn.Linear(inputs, outputs)
            layers[f"relu{number}"] = torch.nn.ReLU()
        layers.popitem()
        self.network = torch.nn.Sequential()
        for name, layer in layers.items():
            self.network.add_module(name, layer)
        self.network.to(device)
        self.loss = torch.nn.CrossEntropyLoss()
        self.batches = [
            (
                torch.randn(batch_size, widths[0], device=device),
                torch.randint(widths[-1], (batch_size,), device=device),
            )
            for _ in range(1 + steps)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            self.optimizer = BlockOptimizer(
                torch.optim.Adam(self.network.parameters(), lr=1e-5),
                list(self.network.named_parameters()),
                [[f"{name}."] for name in layers if name.startswith("dense")],
                switch_block_every=every,
                switch_mode="ascending",
                verbose=0,
            )
        self.optimizer.global_step = -1  # it counts from 0: the first visit would be a step short
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step(self, x, y) -> None:
        """Moves the block whose turn it is."""
        self.loss(self.network(x), y).backward()
        self.optimizer.step()

    def epoch(self) -> float:
        """Seconds per step of one pass over the batches, which are on the device; the first step is not timed."""
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every switch
            for step, (x, y) in enumerate(self.batches):
                if step == 1:
                    self.wait()
                    start = time.perf_counter()
                self.step(x, y)
            self.wait()
            return (time.perf_counter() - start) / step


class Process:
    """A `Badam` of the same arguments in a process of its own. Use as a context manager."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "experiments.cost.badam", json.dumps(arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait()

    def epoch(self) -> float:
        """As `Badam.epoch`."""
        print(file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs badam ended: see above")
        return float(answer)


if __name__ == "__main__":
    _badam = Badam(*json.loads(sys.argv[1]))
    for _line in sys.stdin:
        print(_badam.epoch(), flush=True)
