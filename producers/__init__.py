"""File events: a watcher and a scanner announce paths to look at."""
