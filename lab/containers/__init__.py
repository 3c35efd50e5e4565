"""The whole stack on a container engine, checked from outside: ``make e2e``."""
