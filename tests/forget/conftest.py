"""A project with all that the pipeline leaves, made once; every test changes a copy."""

from support.project import made, project

__all__ = ["made", "project"]
