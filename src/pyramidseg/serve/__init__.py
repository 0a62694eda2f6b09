"""An HTTP server for models: plain requests, the Open Inference Protocol, and Label Studio's backend protocol."""
