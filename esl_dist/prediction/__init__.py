"""A trained network on anybody's pictures: frames in, label maps, overlays and confidences out."""
