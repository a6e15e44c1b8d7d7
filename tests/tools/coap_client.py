"""A CoAP client on aiocoap: one request, or an observation. Prints a line of JSON for each response.

Usage: coap_client.py METHOD URI [--payload TEXT] [--non] [--observe COUNT]
"""

import argparse
import asyncio
import json

import aiocoap


def tell(response):
    told = {
        "code": response.code.dotted,
        "payload": response.payload.decode(),
        "observe": response.opt.observe,
        "format": None if response.opt.content_format is None else int(response.opt.content_format),
    }
    print(json.dumps(told), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("method")
    parser.add_argument("uri")
    parser.add_argument("--payload", default="")
    parser.add_argument("--non", action="store_true")
    parser.add_argument("--observe", type=int, default=0)
    job = parser.parse_args()
    context = await aiocoap.Context.create_client_context()
    message = aiocoap.Message(
        code=getattr(aiocoap, job.method.upper()),
        uri=job.uri,
        payload=job.payload.encode(),
        transport_tuning=aiocoap.Unreliable if job.non else aiocoap.Reliable,
        observe=0 if job.observe else None,
    )
    request = context.request(message)
    tell(await request.response)
    heard = 0
    if job.observe:
        async for notification in request.observation:
            tell(notification)
            heard += 1
            if heard == job.observe:
                break
    await context.shutdown()


asyncio.run(main())
