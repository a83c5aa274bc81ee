"""A network switch in user space: a TAP device for each host, and rules for what passes between two of them.

Run as a program, with {name: [device, number]} as JSON: it makes the devices, says "ready", then takes a rule a line on its
standard input and answers each with "ok". When that closes it ends, and its devices are gone with it.

A host's number ends its hardware address, so nothing is learned. Delay and loss are made here, because not every kernel
has netem; what is dropped is dropped in silence, as by a cable that was cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME = 65_536


@dataclass
class Rule:
    """What becomes of frames of one direction. loss: their share; delay, jitter: in seconds."""

    drop: bool = False
    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0


def make_tap(device: str) -> int:
    """The descriptor of a new TAP device, which lasts as long as it is open."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


class Switch:
    """Passes frames on. ports: {host: (descriptor, number)}."""

    def __init__(self, ports: dict[str, tuple[int, int]]) -> None:
        self.ports = ports
        self.names = {number: name for name, (_, number) in ports.items()}
        self.rules: dict[tuple[str, str], Rule] = {}
        self.late: list[tuple[float, int, str, bytes]] = []
        self.counted = 0

    def take(self, sender: str, frame: bytes) -> None:
        """A frame from a host: to the one that it is for, or to all."""
        receiver = None if frame[0] & 1 else self.names.get(frame[5])
        for name in self.ports if receiver is None else (receiver,):
            if name != sender:
                self.judge(sender, name, frame)

    def judge(self, sender: str, receiver: str, frame: bytes) -> None:
        """Drop it, give it now, or keep it for later."""
        rule = self.rules.get((sender, receiver))
        if rule is None:
            self.give(receiver, frame)
        elif not rule.drop and random.random() >= rule.loss:
            self.counted += 1
            due = time.monotonic() + max(0.0, rule.delay + random.uniform(-rule.jitter, rule.jitter))
            heapq.heappush(self.late, (due, self.counted, receiver, frame))

    def give(self, receiver: str, frame: bytes) -> None:
        """A frame that its device cannot take now is lost, as on a wire."""
        with contextlib.suppress(OSError):
            os.write(self.ports[receiver][0], frame)

    def give_late(self) -> float | None:
        """Give what is due; seconds until the next is."""
        while self.late:
            left = self.late[0][0] - time.monotonic()
            if left > 0:
                return left
            _, _, receiver, frame = heapq.heappop(self.late)
            self.give(receiver, frame)
        return None

    def obey(self, command: dict[str, Any]) -> None:
        """`{"clear": true}`, or a rule for `between`, a list of pairs of hosts."""
        if command.get("clear"):
            self.rules.clear()
        for sender, receiver in command.pop("between", ()):
            self.rules[sender, receiver] = Rule(**command)


def main() -> None:
    """Be the program."""
    wanted: dict[str, list[Any]] = json.loads(sys.argv[1])
    switch = Switch({name: (make_tap(device), number) for name, (device, number) in wanted.items()})
    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    for name, (descriptor, _) in switch.ports.items():
        selector.register(descriptor, selectors.EVENT_READ, name)
    selector.register(0, selectors.EVENT_READ, None)
    rest = b""
    while True:
        for key, _ in selector.select(switch.give_late()):
            if key.data is None:
                read = os.read(0, 65_536)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    switch.obey(json.loads(line))
                    print("ok", flush=True)
                continue
            for _ in range(64):
                try:
                    frame = os.read(key.fd, FRAME)
                except OSError:  # nothing more, or the device is not up yet
                    break
                switch.take(key.data, frame)


if __name__ == "__main__":
    main()
