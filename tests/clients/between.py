"""A network between an agent and its server, which can lose what it carries."""

import re
import socket
import threading

OPERATION = re.compile(rb"x-amz-target: \w+\.(\w+)", re.IGNORECASE)
PROTOCOL = re.compile(rb"(upgrade: strongroom-attach/)\d+", re.IGNORECASE)


class Between:
    """Carries connections to a server until it is cut; requests in `lost` never arrive."""

    def __init__(self, server, lost=()):
        self.dir, self.lost = server.dir, set(lost)
        self.reached = threading.Event()
        # What the agent asks to speak is as if it were of this version.
        self.version = None
        self.target = server.listen.rsplit(":", 1)
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """From now on nothing is carried: what is open breaks, and nothing answers."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()

    def drop(self):
        """Breaks what is open."""
        for end in self.open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near):
        self.open.append(near)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = near.recv(65536)
            if not piece:
                return near.close()
            head += piece
        operation = OPERATION.search(head)
        if operation and operation[1].decode() in self.lost:
            return self.reached.set()
        if self.version is not None:
            head = PROTOCOL.sub(rb"\g<1>%d" % self.version, head)
        far = socket.create_connection((self.target[0], int(self.target[1])))
        self.open.append(far)
        far.sendall(head)
        threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
        self._pump(near, far)

    @staticmethod
    def _pump(source, sink):
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
