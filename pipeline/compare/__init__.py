"""Compare any two folders or archives: `facesr compare`, and `facesr score`."""
