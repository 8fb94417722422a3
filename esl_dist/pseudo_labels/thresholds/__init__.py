"""From scores to thresholds: exact order statistics over all images of all ranks, and the rules that take them."""
