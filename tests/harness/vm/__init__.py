"""A Linux kernel in a virtual machine: the host that uses what the agent makes."""

from harness.vm.machine import GuestError, VirtualMachine

__all__ = ["GuestError", "VirtualMachine"]
