"""A LwM2M device of the tests, written from the specifications of OMA (Core and Transport 1.0.2, 1.1, 1.2).

model.py    the objects, what may be done to their resources, and their values
formats.py  text, opaque, CBOR, TLV, LwM2M JSON, SenML JSON, SenML CBOR, LwM2M CBOR
coap.py     messages over one UDP port: retransmission, duplicates, separate responses, blocks, DTLS
observe.py  observations, and when they notify
device.py   the interfaces: bootstrap, registration, management, reporting; firmware update
"""
