"""Picture files with their depth, alpha, EXIF and profile: read and written."""
