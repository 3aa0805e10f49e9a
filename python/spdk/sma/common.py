# SPDX-License-Identifier: Apache-2.0
"""Conversions of volume ids."""

import uuid


def format_volume_id(volume_id):
    """Returns the id in text form; None if it is not a UUID. `volume_id` is 16 bytes or text."""
    try:
        if isinstance(volume_id, bytes):
            return str(uuid.UUID(bytes=volume_id))
        if isinstance(volume_id, str):
            return str(uuid.UUID(hex=volume_id))
    except ValueError:
        pass
    return None


def volume_id_to_nguid(volume_id):
    """Converts a volume id in text form to the text form of an NVMe NGUID."""
    return volume_id.replace("-", "")
