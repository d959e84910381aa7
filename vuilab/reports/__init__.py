"""Notebooks to HTML, and tables and model cards from the ledger."""
