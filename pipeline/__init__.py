"""facesr: self-supervised 4x face super-resolution as a reproducible pipeline."""

__version__ = "0.1.0"
