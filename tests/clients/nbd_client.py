"""A block client that knows exactly which of its writes were answered and which flushed.

The stock clients do not tell; the crash test has to know.
"""

import socket
import struct

GO = 7
CMD_READ, CMD_WRITE, CMD_DISCONNECT, CMD_FLUSH = 0, 1, 2, 3
REQUEST_MAGIC, SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698


class Nbd:
    """A connection to one export. Every call raises OSError once the server is gone."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.cookie = 0
        magic, option_magic, flags = struct.unpack(">QQH", self._receive(18))
        assert (magic, option_magic) == (0x4E42444D41474943, 0x49484156454F5054)
        assert flags & 1, "fixed newstyle"
        self.socket.sendall(struct.pack(">I", 1))
        self.socket.sendall(struct.pack(">QIIIH", option_magic, GO, 6, 0, 0))
        while True:
            reply_magic, option, kind, length = struct.unpack(">QIII", self._receive(20))
            assert (reply_magic, option) == (0x3E889045565A9, GO)
            self._receive(length)
            if kind == 1:
                return
            assert kind == 3, f"option reply {kind:#x}"

    def _receive(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise ConnectionError("the server closed the connection")
            data += piece
        return bytes(data)

    def _call(self, command, offset, length, payload=b"", reply_bytes=0):
        self.cookie += 1
        header = struct.pack(">IHHQQI", REQUEST_MAGIC, 0, command, self.cookie, offset, length)
        self.socket.sendall(header + payload)
        magic, error, cookie = struct.unpack(">IIQ", self._receive(16))
        assert (magic, cookie) == (SIMPLE_REPLY_MAGIC, self.cookie)
        if error:
            raise OSError(error, "the server answered an error")
        return self._receive(reply_bytes)

    def read(self, offset, length):
        return self._call(CMD_READ, offset, length, reply_bytes=length)

    def write(self, offset, data):
        self._call(CMD_WRITE, offset, len(data), data)

    def flush(self):
        self._call(CMD_FLUSH, 0, 0)

    def close(self):
        self.socket.close()
