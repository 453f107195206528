"""Pages of one file that need no network: templates, pictures within a budget."""
