"""Measure every method on every face: the stage `evaluate`."""
