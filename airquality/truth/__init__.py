"""What truth says of predictions: errors, intervals, and the error of windows once late truths are in."""
