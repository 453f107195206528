"""Models that others can use: named, described, exported, published; `facesr models`."""
