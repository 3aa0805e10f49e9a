"""Callers of an agent, in a process of their own: each creates one device of protocol nvme over and over, until
standard input ends. Prints a line when each has been answered once, and at the end the number of calls.

usage: callers.py ADDRESS COUNT"""

import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import wire  # noqa: E402
from harness.agent import AgentClient  # noqa: E402


def main():
    address, count = sys.argv[1], int(sys.argv[2])
    client = AgentClient(address)
    stop = threading.Event()
    calls = [0] * count
    answered = threading.Barrier(count + 1)

    def call(number):
        request = wire.sma.CreateDeviceRequest()
        request.nvme.physical_id = number
        while not stop.is_set():
            client.stub.CreateDevice(request, timeout=30)
            calls[number] += 1
            if calls[number] == 1:
                answered.wait()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    answered.wait()
    print("all have called", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(sum(calls))


if __name__ == "__main__":
    main()
