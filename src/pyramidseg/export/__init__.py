"""Models as files for other runtimes, each checked against the model it was made from."""
