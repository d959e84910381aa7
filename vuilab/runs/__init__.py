"""What a run leaves behind: weights, histories, records, checkpoints."""
