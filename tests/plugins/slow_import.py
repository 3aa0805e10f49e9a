import time

from shapes import NvmeDevice

time.sleep(1.5)
devices = [NvmeDevice]
