"""python -m experiments.coadaptation [--scale full] ...: the same as python -m experiments run coadaptation."""

import sys

from experiments.harness.command import main

if __name__ == "__main__":
    main(["run", "coadaptation", *sys.argv[1:]])
