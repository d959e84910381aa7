"""Error rates with intervals, confidence, predictions, tuning and the comparison of runs."""
