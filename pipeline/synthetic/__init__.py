"""The parts of the procedural portraits: traits, pose, head, eyes, mouth, hair, clothes, backdrop."""
