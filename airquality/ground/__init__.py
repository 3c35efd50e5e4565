"""What everything stands on: errors, settings, log lines, files."""
