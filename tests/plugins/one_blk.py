from shapes import BlkDevice

devices = [BlkDevice]
