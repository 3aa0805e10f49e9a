# SPDX-License-Identifier: Apache-2.0
from shapes import OldEngine

crypto_engines = [OldEngine]
