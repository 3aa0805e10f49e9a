"""What plugins of the Storage Management Agent import. What is not here comes from an installed package `spdk`."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

try:
    from .version import __version__
except ImportError:
    __version__ = "0.0"
