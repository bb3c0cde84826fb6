"""client.py -- an echo server seen by Python's websockets: python3 client.py URL"""

import asyncio
import random
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

COMPRESSIONS = [
    None,
    [ClientPerMessageDeflateFactory()],
    [ClientPerMessageDeflateFactory(server_no_context_takeover=True,
                                    client_no_context_takeover=True)],
    [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)],
]


async def echoes(url, extensions):
    async with websockets.connect(url, compression=None, extensions=extensions,
                                  subprotocols=["chat.v1"]) as socket:
        assert socket.subprotocol == "chat.v1"
        assert bool(socket.extensions) == bool(extensions)
        for size in (0, 1, 125, 126, 65535, 65536, 300000):
            data = random.Random(size).randbytes(size)
            await socket.send(data)
            assert await socket.recv() == data
            text = "".join(random.Random(size).choices("aé€😀", k=size // 2))
            await socket.send(text)
            assert await socket.recv() == text
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        await asyncio.wait_for(await socket.ping(), 2)
        await socket.close(4000, "enough")
        assert socket.close_code == 4000


async def limits(url):
    async with websockets.connect(url) as socket:
        try:
            await socket.send(bytes(2 << 20))
            await socket.recv()
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed


async def main(url):
    for extensions in COMPRESSIONS:
        await echoes(url, extensions)
    await limits(url)


asyncio.run(main(sys.argv[1]))
