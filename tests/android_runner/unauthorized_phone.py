"""A phone whose owner never confirms: it answers every message of adb with a demand for authorization.

Run as `python unauthorized_phone.py PORT`.
"""

import os
import socket
import struct
import sys

AUTH, TOKEN = 0x48545541, 1


def serve(port: int) -> None:
    """Answer one connection after the other."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                while header := connection.recv(24, socket.MSG_WAITALL):
                    length = struct.unpack("<6I", header)[3]
                    connection.recv(length, socket.MSG_WAITALL)
                    token = os.urandom(20)
                    answer = struct.pack("<6I", AUTH, TOKEN, 0, len(token), sum(token), AUTH ^ 0xFFFFFFFF)
                    connection.sendall(answer + token)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
