"""Forms of volume ids."""

import uuid


def format_volume_id(volume_id):
    """The id as text, `volume_id` being its 16 bytes or text already; None where it is no UUID."""
    try:
        if isinstance(volume_id, bytes):
            return str(uuid.UUID(bytes=volume_id))
        if isinstance(volume_id, str):
            return str(uuid.UUID(hex=volume_id))
    except ValueError:
        pass
    return None


def volume_id_to_nguid(volume_id):
    """The text form of an id as an NVMe NGUID."""
    return volume_id.replace("-", "")
