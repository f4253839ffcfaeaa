"""What is measured at each scale."""

import dataclasses
import functools
from collections.abc import Callable

import keras

from experiments.cost import badam
from experiments.harness.networks import Network, convnet, dense, resnet50, transformer


@dataclasses.dataclass(frozen=True)
class Settings:
    """The networks and numbers of one scale on one kind of device.

    Attributes:
        scale: "quick" or "full".
        device: "cpu" or "gpu".
        networks: Networks whose steps are measured.
        repetitions: Interleaved repetitions of each measurement.
        many: Builds the network of many blocks from their number.
        counts: Numbers of blocks for which programs are counted and compiled, one for each block.
        shared_counts: The same with at most `max_programs` programs.
        max_programs: The bound on programs.
        memory: Networks whose optimizer state and peak memory are measured.
        greedy: The network of equal blocks that is trained greedily.
        stage_epochs: Epochs of each greedy stage.
        baseline: The network on which other people's ways are measured.
        visits: Lengths of a visit there, in steps.
    """

    scale: str
    device: str
    networks: tuple[Network, ...]
    repetitions: int
    many: Callable[[int], keras.Model]
    counts: tuple[int, ...]
    shared_counts: tuple[int, ...]
    memory: tuple[Network, ...]
    greedy: Network
    stage_epochs: int
    baseline: Network
    visits: tuple[int, ...]
    max_programs: int = 16


def settings(scale: str, device: str) -> Settings:
    """The `Settings` of a scale ("quick" or "full") on a device ("cpu" or "gpu")."""
    return {"cpu": _cpu, "gpu": _gpu}[device](scale)


def _equal_blocks(width, batch_size, steps):
    """Six equal blocks, the last one with the output; ten classes, so that heads are small.

    A greedy run has six times as many epochs. At the end of any of them TensorFlow's data pipeline may take a second
    (see `timing.Seconds`), so that epochs are long.
    """
    build = functools.partial(dense, 6, width, classes=10)
    return Network(f"dense {width}", build, batch_size, steps, blocks=6)


def _cpu(scale):
    full = scale == "full"
    equal = Network("dense", functools.partial(dense, 20, 512), batch_size=128, steps=20)
    small = (
        Network("convnet", convnet, batch_size=16, steps=6),
        Network("transformer", transformer, batch_size=4, steps=6, blocks=6),
    )
    wide = Network("dense 1024", functools.partial(dense, 20, 1024), batch_size=32, steps=2)
    resnet = Network("ResNet50", resnet50, batch_size=4, steps=2)
    return Settings(
        scale=scale,
        device="cpu",
        networks=(equal, *small),
        repetitions=5 if full else 3,
        many=functools.partial(dense, width=64),
        counts=(5, 10, 20, 50) if full else (5, 10, 20),
        shared_counts=(20, 50, 100, 200) if full else (20,),
        memory=(wide, *small, resnet) if full else (wide,),
        greedy=_equal_blocks(1024, batch_size=128, steps=128 if full else 6),
        stage_epochs=4 if full else 2,
        baseline=equal,
        visits=(1, 10, badam.DEFAULT_VISIT) if full else (1, 10),
    )


def _gpu(scale):
    full = scale == "full"

    def stack(width, batch_size):
        build = functools.partial(dense, 20, width, inputs=512)
        return Network(f"dense {width}", build, batch_size, steps=20)

    busy = stack(4096, 4096) if full else stack(2048, 2048)
    others = (
        Network(
            "convnet",
            functools.partial(convnet, widths=(128, 128, 256, 256, 512, 512)),
            batch_size=1024,
            steps=24,
        ),
        Network(
            "transformer",
            functools.partial(transformer, width=1024, heads=16, length=512),
            batch_size=32,
            steps=24,
            blocks=6,
        ),
    )
    networks = (busy, *others) if full else (busy,)
    resnet = Network("ResNet50", resnet50, batch_size=64, steps=2)
    return Settings(
        scale=scale,
        device="gpu",
        networks=networks,
        repetitions=5 if full else 3,
        many=functools.partial(dense, width=64),
        counts=(5, 10, 20, 50) if full else (5, 10),
        shared_counts=(20, 50, 100, 200) if full else (20,),
        memory=(*networks, stack(8192, 4096), resnet) if full else networks,
        greedy=_equal_blocks(4096 if full else 2048, batch_size=2048, steps=24 if full else 6),
        stage_epochs=4 if full else 2,
        baseline=busy,
        visits=(1, 20) if full else (1, 10),  # a sweep's batches are all in memory
    )
