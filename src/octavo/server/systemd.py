"""What a systemd unit with `Type=notify` waits for: a word when the server is ready, and when it ends (sd_notify(3))."""

import logging
import socket

from octavo.config.env import notify_socket

logger = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell_systemd(state: str) -> None:
    """Does nothing where `$NOTIFY_SOCKET` is not set, as it is by systemd alone."""
    address = notify_socket()
    if address is None:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.setblocking(False)
            notifier.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("NOTIFY_SOCKET was not told %s: %s", state, error)
