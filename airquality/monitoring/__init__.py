"""Windows, statistics, calibration."""
