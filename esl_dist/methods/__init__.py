"""Training methods: everything that is a method's own, one file or small folder each."""
