"""The benchmark: this project beside what a user would pick instead, on the same rows.

A *contender* is a worker process, in a virtual environment of its own where it needs one, that
answers "prepare" and "run k steps". A *comparison* is a few contenders and the targets for the
ratios of what they cost; the driver lets them run in turns. A stage (`stages/`) is a function from
the settings to comparisons. To add a peer: one file in `workers/`, one entry in the stage.
"""
