"""facecam tells you, live, who is in front of the camera."""

__version__ = "0.1.0"

__all__ = ["__version__"]
