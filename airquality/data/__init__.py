"""The data set: the real one, and a simulator of the same format."""
