"""What is measured on pictures: fidelity, perception, distances, identity, defects."""
