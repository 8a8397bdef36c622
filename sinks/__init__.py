"""Consumer groups that write what was computed into Qdrant."""
