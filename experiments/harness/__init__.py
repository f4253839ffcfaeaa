"""What the experiments share: the command line, running a comparison, data, models, measuring and showing."""
