"""Train, select and register the model that is served."""
