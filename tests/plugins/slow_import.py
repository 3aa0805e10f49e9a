import time

from shapes import NvmeDevice

time.sleep(0.5)
devices = [NvmeDevice]
