"""What an archive holds, at a glance: `facesr inspect`."""
