"""The API of digitlab: everything that a client talks to. Never imports torch, torchvision or scikit-learn."""

__version__ = "0.1.0"
