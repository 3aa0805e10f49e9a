# SPDX-License-Identifier: Apache-2.0
"""A Linux kernel in a VM: the host that uses the agent's devices."""

from harness.vm.machine import GuestError, VirtualMachine

__all__ = ["GuestError", "VirtualMachine"]
