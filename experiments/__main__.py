"""python -m experiments list | run NAME | plot [NAME] | table [NAME]."""

from experiments.command import main

if __name__ == "__main__":
    main()
