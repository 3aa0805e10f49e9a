# SPDX-License-Identifier: Apache-2.0
"""Calls the target's JSON-RPC methods."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
