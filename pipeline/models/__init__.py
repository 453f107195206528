"""Our networks, their weights files and the device that they run on."""
