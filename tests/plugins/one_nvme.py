# SPDX-License-Identifier: Apache-2.0
from shapes import NvmeDevice

devices = [NvmeDevice]
