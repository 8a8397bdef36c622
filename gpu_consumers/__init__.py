"""Consumer groups that compute on batches of pictures."""
