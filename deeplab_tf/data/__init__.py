"""Datasets, and how batches are made of their examples."""
