"""The Faust application: hashing and deduplication."""
