"""Thin DVC entry points: read params, call the library, exit with a code."""
