"""The API of digitlab: everything that a client talks to. It never imports torch, torchvision or scikit-learn."""

import os

# ONNX Runtime sends telemetry unless this is set before its import; `disable_telemetry_events()` comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
