"""Pictures taken out of all that was made of them: `facesr forget`."""
