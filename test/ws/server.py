"""server.py -- an echo server by Python's websockets; says its port, ends with its input."""

import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4321, "as you wish")
        elif message == "drop":
            socket.transport.abort()
        else:
            await socket.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, subprotocols=["echo"]) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
