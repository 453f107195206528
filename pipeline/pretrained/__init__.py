"""Other people's networks: where they lie, and their checksums."""
