# SPDX-License-Identifier: Apache-2.0
from shapes import BlkDevice

devices = [BlkDevice]
