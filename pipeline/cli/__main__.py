"""`python -m pipeline.cli` is `facesr`, and this what that calls."""

from pipeline.cli import main
from pipeline.runtime.signals import end_with


def run() -> None:
    """Run the command and end the process."""
    end_with(main)


if __name__ == "__main__":
    run()
