"""What a connection leaves behind."""

import asyncio
import gc
import weakref

import uvicorn
from uvicorn.server import ServerState

from onebit.serving.protocol import make_protocol


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_a_connection_is_freed_without_the_collector_of_cycles():
    kept = []

    class Watched(make_protocol(10)):
        def connection_made(self, transport):
            super().connection_made(transport)
            kept.append(weakref.ref(transport))

    async def run():
        config = uvicorn.Config(answer, ws="none", lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: Watched(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"ok")
            writer.close()
            await writer.wait_closed()
        while state.connections:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert [transport() for transport in kept] == [None, None, None]
        server.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
