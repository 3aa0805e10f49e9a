# SPDX-License-Identifier: Apache-2.0
import time

from shapes import NvmeDevice

time.sleep(0.5)
devices = [NvmeDevice]
