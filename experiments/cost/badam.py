"""badam: the published torch implementation of block-coordinate Adam (Luo, Yu & Li, NeurIPS 2024), in plain torch."""

import contextlib
import gc
import io
import time
import warnings


class Badam:
    """A torch network with the widths of a training's dense layers, trained by `badam.BlockOptimizer`.

    Args:
        training: A `Training` of dense layers with ReLU between them.
        every: Steps of a visit.

    Raises:
        ImportError: badam is not installed.
    """

    def __init__(self, training, every):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it expects 16-bit weights
            self._build(torch, training, every)

    def _build(self, torch, training, every):
        try:
            from badam import BlockOptimizer
        except ImportError as error:
            raise ImportError(
                "The baseline is the published torch implementation: pip install -e '.[baselines]'."
            ) from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        layers, names = {}, []
        for block in training.model.layers:
            inputs, outputs = block.kernel.shape
            names.append(f"{block.name}_layer")
            layers[names[-1]] = torch.nn.Linear(inputs, outputs)
            layers[f"{block.name}_relu"] = torch.nn.ReLU()
        layers.popitem()
        self.network = torch.nn.Sequential()
        for name, layer in layers.items():
            self.network.add_module(name, layer)
        self.network.to(device)
        self.loss = torch.nn.CrossEntropyLoss()
        size = training.network.batch_size
        x = torch.as_tensor(training.x, device=device).split(size)
        y = torch.as_tensor(training.y, device=device).long().split(size)
        self.batches = list(zip(x, y, strict=True))
        with contextlib.redirect_stdout(io.StringIO()):
            self.optimizer = BlockOptimizer(
                torch.optim.Adam(self.network.parameters(), lr=1e-5),
                list(self.network.named_parameters()),
                [[f"{name}."] for name in names],
                switch_block_every=every,
                switch_mode="ascending",
                verbose=0,
            )
        self.optimizer.global_step = (
            -1
        )  # it counts from there: else the first visit is a step short
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step(self, x, y):
        """Moves the block whose turn it is."""
        self.loss(self.network(x), y).backward()
        self.optimizer.step()

    def epoch(self):
        """Seconds per step of one pass over the batches, which are on the device; the first step is not timed."""
        gc.collect()
        gc.freeze()  # it collects garbage at every switch: it need not look through Keras each time
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every switch
            for step, (x, y) in enumerate(self.batches):
                if step == 1:
                    self.wait()
                    start = time.perf_counter()
                self.step(x, y)
            self.wait()
            seconds = time.perf_counter() - start
        gc.unfreeze()
        return seconds / step
