"""What the programs at the root share: records, features, model, broker, detectors, reports."""
