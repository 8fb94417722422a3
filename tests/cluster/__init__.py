"""Launchers, image and manifests, as far as a machine without an engine, a scheduler or a cluster can try them."""
