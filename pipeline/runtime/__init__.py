"""How work runs: stages, work units, Ray, progress."""
