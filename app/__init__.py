"""The API of digitlab: everything that a client talks to. Never imports torch, torchvision or scikit-learn."""

import os

# Unless this is set before it is imported, ONNX Runtime reports to its maker; `disable_telemetry_events()` is too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
