"""Where numbers and models come from, and where a picture went: `facesr lineage`."""
