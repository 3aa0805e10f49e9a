"""A device type that is made ready once, and then never again."""

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
