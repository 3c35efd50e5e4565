"""Features, the model, the registry, the service's client."""
