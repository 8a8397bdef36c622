"""The HTTP process that answers searches."""
