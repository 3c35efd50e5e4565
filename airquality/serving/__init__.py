"""The prediction service without its door: what it answers, what it refuses, and how it keeps itself reachable."""
