"""The version of facesr."""

__version__ = "0.1.0"
