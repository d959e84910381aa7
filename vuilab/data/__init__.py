"""From a manifest to batches: cached features, buckets, partitions and the generator."""
