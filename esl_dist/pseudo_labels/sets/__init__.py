"""From a target set to label files: the forward, the spool between, the PNGs, and what is learned from them."""
