"""The Open Inference Protocol, version 2: serves the same models to clients of other model servers."""
