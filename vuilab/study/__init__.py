"""The model study: questions, claims, runs and the sections of its notebook."""
