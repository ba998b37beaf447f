"""Any name: what the application has cannot be had here, so its names are taken for what they are used as."""

from typing import Any

def __getattr__(name: str) -> Any: ...
