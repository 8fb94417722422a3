"""The commands: each a ``main(argv)`` in a file of its own, run by ``python -m esl_dist.<name>``."""
