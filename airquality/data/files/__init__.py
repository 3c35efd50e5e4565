"""Files of readings as people have them: read only where nothing about them is in doubt, else refused by name."""
