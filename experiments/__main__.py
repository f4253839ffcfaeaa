"""python -m experiments list | run NAME | plot [NAME] | table [NAME]."""

from experiments.harness.command import main

if __name__ == "__main__":
    main()
