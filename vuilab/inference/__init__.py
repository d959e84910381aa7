"""Trained models in use: files, the microphone, word times, other formats."""
