"""`python -m pipeline.cli` is `facesr`."""

from pipeline.cli import main

main()
