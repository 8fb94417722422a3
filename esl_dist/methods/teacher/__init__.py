"""Self-training with an averaged teacher in every step: DAFormer, HRDA, MIC, VFM-UDA and combinations of their
ingredients.

One file per ingredient, pure functions where it has no state; whatever is random is drawn from (seed, step or
position).
"""
