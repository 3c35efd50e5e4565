"""The fault lab: what the detectors find of faults put into the data, and what they raise without any."""
