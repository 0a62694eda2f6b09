"""Output files of a prediction."""
