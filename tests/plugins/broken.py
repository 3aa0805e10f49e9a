# SPDX-License-Identifier: Apache-2.0
raise RuntimeError("it cannot be imported")
