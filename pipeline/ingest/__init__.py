"""Archives to shards of faces, split into train, valid and test: the stage `ingest`."""
