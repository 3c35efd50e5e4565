"""What users never import: the broker for tests and ``make run``, the demo, the container checks."""
