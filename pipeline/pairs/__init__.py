"""256x256 inputs and the manifest of training pairs: the stage `pairs`."""
