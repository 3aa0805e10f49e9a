# SPDX-License-Identifier: Apache-2.0
"""A device type whose initialisation succeeds once and then hangs."""

import time

from shapes import MemoryDevice


class HangsAgain(MemoryDevice):
    ready = False

    def __init__(self, client):
        super().__init__(client, "hangs_again", "nvme")

    def init(self, config):
        while self.ready:
            time.sleep(0.05)
        super().init(config)
        self.ready = True


devices = [HangsAgain]
