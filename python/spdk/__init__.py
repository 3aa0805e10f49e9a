# SPDX-License-Identifier: Apache-2.0
"""The package that plugins of the Storage Management Agent import. Missing modules come from an installed `spdk`."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

try:
    from .version import __version__
except ImportError:
    __version__ = "0.0"
