"""The Open Inference Protocol, version 2: the same models for the clients of other model servers."""
