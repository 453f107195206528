"""Train the generators: the stage `train`."""
