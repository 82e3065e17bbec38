"""A TCP proxy of one address: it passes, refuses, swallows, delays and cuts, by request. It needs no
privileges. Of what it carries it knows nothing but in the modes `orphan` and `unended`."""

import asyncio
import contextlib
import socket
import struct
import threading

# Kafka's numbers of requests, and the error that a coordinator's search ends with.
FIND_COORDINATOR, END_TXN, TXN_OFFSET_COMMIT = 10, 26, 28
COORDINATOR_NOT_AVAILABLE = 15


class Proxy:
    """Listens from the first moment on; `to` may be set once it is known. Modes:

    pass     what comes is sent on
    refuse   nobody listens: connections are refused, those that there were are cut
    swallow  connections stay and are taken, nothing is sent on in either direction, as when a cable is out
    delay    each piece is sent on `seconds` after it came
    narrow   each piece takes `seconds` a MiB
    orphan   groups have no coordinator: who searches one is told so, who writes offsets to one in a
             transaction is cut off; connections that there were are cut. For Kafka in the clear
    unended  transactions do not end: who asks for the end of one waits for ever, and `unended` counts that;
             connections that there were are cut. For Kafka in the clear
    """

    FRAMED = ("orphan", "unended")

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.to = None
        self.mode, self.seconds = "pass", 0.0
        self.unended = 0
        self.pairs = set()
        self.loop = asyncio.new_event_loop()
        self.changed = asyncio.Event()
        self.server = None
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self._call(self._listen(listener))

    def set(self, mode, seconds=0.0):
        """From now on, for connections that there are too."""
        self._call(self._set(mode, seconds))

    def cut(self):
        """Ends all connections; new ones are treated as the mode says."""
        self._call(self._cut())

    def close(self):
        self._call(self._set("refuse", 0.0))
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _listen(self, listener):
        self.server = await asyncio.start_server(self._serve, sock=listener)

    async def _set(self, mode, seconds):
        assert mode in ("pass", "refuse", "swallow", "delay", "narrow", *self.FRAMED), mode
        self.mode, self.seconds = mode, seconds
        if mode in self.FRAMED:
            self.unended = 0
            await self._cut()
        if mode == "refuse":
            if self.server:
                self.server.close()
                self.server = None
            await self._cut()
        elif self.server is None:
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.changed.set()
        self.changed = asyncio.Event()

    async def _cut(self):
        for writer in list(self.pairs):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self.pairs.add(writer)
        try:
            while self.mode == "swallow":
                await self.changed.wait()
            try:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)
            except OSError:
                return
            self.pairs.add(there_writer)
            try:
                if self.mode in self.FRAMED:
                    searches = set()
                    ways = (
                        self._requests(reader, there_writer, searches),
                        self._answers(there_reader, writer, searches),
                    )
                else:
                    ways = (self._pump(reader, there_writer), self._pump(there_reader, writer))
                await asyncio.gather(*ways)
            finally:
                self.pairs.discard(there_writer)
                there_writer.transport.abort()
        finally:
            self.pairs.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                while self.mode == "swallow":
                    await self.changed.wait()
                if self.mode == "delay":
                    await asyncio.sleep(self.seconds)
                elif self.mode == "narrow":
                    await asyncio.sleep(self.seconds * len(piece) / 2**20)
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()

    async def _requests(self, reader, writer, searches):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                kind, version, number, name = struct.unpack_from(">hhih", frame)
                if self.mode == "orphan" and kind == TXN_OFFSET_COMMIT:
                    break
                if self.mode == "unended" and kind == END_TXN:
                    self.unended += 1
                    continue
                if self.mode == "orphan" and kind == FIND_COORDINATOR:
                    # Behind the client's name: the key, and from version 1 on what it is the key of.
                    at = 10 + max(name, 0)
                    (key,) = struct.unpack_from(">h", frame, at)
                    if version == 0 or frame[at + 2 + key] == 0:
                        searches.add((number, version))
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()
        writer.transport.abort()

    async def _answers(self, reader, writer, searches):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                (number,) = struct.unpack_from(">i", frame)
                version = next((version for at, version in searches if at == number), None)
                if version is not None:
                    searches.discard((number, version))
                    since_1 = (struct.pack(">i", 0), struct.pack(">h", -1)) if version else (b"", b"")
                    frame = b"".join((
                        struct.pack(">i", number), since_1[0], struct.pack(">h", COORDINATOR_NOT_AVAILABLE),
                        since_1[1], struct.pack(">ihi", -1, 0, -1),
                    ))
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()
        writer.transport.abort()


async def _frame(reader):
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)
