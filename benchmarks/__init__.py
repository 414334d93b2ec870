"""Speed of Pointsman against nginx and against no proxy at all; start with ``run.py``."""
