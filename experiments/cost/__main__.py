"""python -m experiments.cost [--scale full] [--backend torch] ...: the same as python -m experiments run cost."""

import sys

from experiments.harness.command import main

if __name__ == "__main__":
    main(["run", "cost", *sys.argv[1:]])
