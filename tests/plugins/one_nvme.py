from shapes import NvmeDevice

devices = [NvmeDevice]
