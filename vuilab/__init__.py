"""A laboratory for neural speech recognition: the folders are the pipeline, lowest floor first (see docs/architecture.md)."""
