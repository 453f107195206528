"""What every stage stands on: files, shards, schemas, images, degradation."""
