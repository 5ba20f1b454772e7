"""Everything that passes the network namespace's one interface and is not from loopback to loopback, byte by byte."""

import ipaddress
import socket
import struct
import threading
from collections import defaultdict

ETH_P_ALL = 0x0003
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
PACKET_OUTGOING = 4
BUFFER_BYTES = 64 << 20


class Sniffer(threading.Thread):
    """Keeps the payload of each flow that leaves, in order, and the addresses that were spoken to."""

    def __init__(self, interface="lo"):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.bind((interface, ETH_P_ALL))
        self.flows = defaultdict(bytearray)
        self.peers = set()
        self.lock = threading.Lock()

    def run(self):
        while True:
            packet, (_, protocol, kind, *_) = self.socket.recvfrom(1 << 17)
            # What is sent to oneself is seen twice.
            if kind == PACKET_OUTGOING and protocol in (ETH_P_IP, ETH_P_IPV6):
                self.note(packet, protocol)

    def note(self, packet, protocol):
        if protocol == ETH_P_IP:
            head, transport = (packet[0] & 15) * 4, packet[9]
            source, target = (ipaddress.ip_address(packet[at : at + 4]) for at in (12, 16))
        else:
            head, transport = 40, packet[6]
            source, target = (ipaddress.ip_address(packet[at : at + 16]) for at in (8, 24))
        if source.is_loopback and target.is_loopback:
            return
        body = packet[head:]
        ports = struct.unpack("!HH", body[:4]) if len(body) >= 4 else (0, 0)
        skip = (body[12] >> 4) * 4 if transport == socket.IPPROTO_TCP and len(body) > 12 else 8
        with self.lock:
            self.peers.add(str(target))
            self.flows[source, target, transport, ports] += body[skip:]

    def lost(self):
        """Packets that the kernel could not hand over: with any of them, what was seen is not all."""
        SOL_PACKET, PACKET_STATISTICS = 263, 6
        _, drops = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        return drops

    def seen(self):
        """The payload of every flow."""
        with self.lock:
            return [bytes(flow) for flow in self.flows.values()]
