"""From a network's logits to scores: every confidence, its key, and the implementations with the same bits."""
