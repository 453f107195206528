"""Methods to compare with: the stage `baselines`."""
