"""From images to label maps: backends, predictor, sources and writers."""
