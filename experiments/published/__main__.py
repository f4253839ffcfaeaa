"""python -m experiments.published [--cifar10 FILE.npz] ...: the same as python -m experiments run published."""

import sys

from experiments.harness.command import main

if __name__ == "__main__":
    main(["run", "published", *sys.argv[1:]])
