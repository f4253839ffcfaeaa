"""python -m experiments.linearity [--scale full] ...: the same as python -m experiments run linearity."""

import sys

from experiments.harness.command import main

if __name__ == "__main__":
    main(["run", "linearity", *sys.argv[1:]])
