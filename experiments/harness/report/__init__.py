"""The report: the answers of all experiments, as one page and as one README."""
