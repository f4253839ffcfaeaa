"""`python -m experiments.interplay`, with the arguments of `experiments run interplay`."""

import sys

from experiments.harness.command import main

if __name__ == "__main__":
    main(["run", "interplay", *sys.argv[1:]])
