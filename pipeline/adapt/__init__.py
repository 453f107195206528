"""Fine-tune the released generators on faces of one's own: `facesr adapt`."""
