"""The models: pictures and queries to vectors, pictures to captions. Everything but `slug` starts in `model`."""
