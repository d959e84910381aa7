"""What there is to learn from: manifests, indexing, downloads, the demo corpus and synthetic speech."""
