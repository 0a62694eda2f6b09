"""The sweep over encoders: `python -m benchmarks.encoders`."""
