"""Where faces lie in a picture, and how they are turned."""
