"""Pictures: which files are some, their pixels, and what they say about themselves."""
