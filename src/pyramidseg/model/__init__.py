"""The network: encoder, Feature Pyramid decoder, Segmenter, and the files that hold its weights."""
