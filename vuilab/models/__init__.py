"""Layers and networks: features to logits, and the CTC loss."""
