"""What everything else uses: errors, settings, log lines, files."""
