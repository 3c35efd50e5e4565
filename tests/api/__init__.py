"""The prediction service: what it answers and refuses, and which model answers."""
