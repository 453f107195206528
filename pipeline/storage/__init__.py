"""Files on a disk or an object store."""
