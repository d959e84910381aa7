"""Classifiers of single words: corpus, features, models, training, spotting."""
