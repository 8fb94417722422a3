"""Transformer networks, their loaders and what they are made of."""
