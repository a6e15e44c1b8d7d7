"""Observations and their conditions. [RFC 7641] [1.0.2, 5.1.2 and 5.5] [1.1 and 1.2, 5.1.2, 6.4]"""

import asyncio
import time

import aiocoap

from . import coap
from .model import NUMERIC, Refused, text_of

PERIODS = ("pmin", "pmax", "epmin", "epmax")
THRESHOLDS = ("gt", "lt", "st")
FLAGS = ("edge", "con")


def parse_attributes(query, path, kind, version):
    """The attributes of a Write-Attributes: name -> number, or None where one is to be removed."""
    attributes = {}
    for each in query:
        name, equals, text = each.partition("=")
        newer = name in FLAGS or name == "hqmax"
        since_11 = name in ("epmin", "epmax")
        if name not in PERIODS + THRESHOLDS + FLAGS + ("hqmax",) or name in attributes:
            raise Refused("4.00", f"attribute {each}")
        if (newer and version != "1.2") or (since_11 and version == "1.0"):
            raise Refused("4.00", f"{name} is newer than {version}")
        if name in THRESHOLDS and (len(path) < 3 or kind not in NUMERIC):
            raise Refused("4.00", f"{name} wants a number")
        if name == "edge" and kind != "boolean":
            raise Refused("4.00", "edge wants a boolean")
        if not equals or text == "":
            attributes[name] = None
            continue
        try:
            attributes[name] = float(text) if name in THRESHOLDS else int(text)
        except ValueError:
            raise Refused("4.00", f"attribute {each}") from None
        if name not in ("gt", "lt") and attributes[name] < 0:
            raise Refused("4.00", f"attribute {each}")
        if name in FLAGS and attributes[name] not in (0, 1):
            raise Refused("4.00", f"attribute {each}")
    return attributes


def check_thresholds(attributes):
    """lt + 2 × st < gt"""
    lt, gt, st = attributes.get("lt"), attributes.get("gt"), attributes.get("st")
    if lt is not None and gt is not None and lt + 2 * (st or 0) >= gt:
        raise Refused("4.00", "lt + 2 st < gt does not hold")


def attribute_text(attributes):
    """As Discover writes them."""
    order = PERIODS + THRESHOLDS + FLAGS + ("hqmax",)
    return "".join(f";{name}={attributes[name]:g}" for name in order if attributes.get(name) is not None)


class Observation:
    """One path or, for Observe-Composite, several."""

    def __init__(self, request, address, paths, form, own_attributes):
        self.token = request.token
        self.address = address
        self.paths = paths
        self.form = form
        self.composite = request.code != aiocoap.GET
        self.own_attributes = own_attributes
        self.key = None  # of the cache for Block2
        self.sequence = 0
        self.last_values = {}
        self.last_time = time.monotonic()
        self.changed = False  # there is something that was not told yet
        self.timer = None
        self.queue = []  # confirmable notifications, one at a time
        self.sending = False


class Observer:
    """All observations of the device. `device` gives values, attributes and the way out."""

    def __init__(self, device):
        self.device = device
        self.observations = {}  # token -> Observation
        self.paused = False

    # Beginning and ending.

    def add(self, observation):
        self.remove(observation.token)
        self.observations[observation.token] = observation
        observation.last_values = self.device.values_of(observation)
        self._arm(observation)

    def remove(self, token):
        gone = self.observations.pop(token, None)
        if gone and gone.timer:
            gone.timer.cancel()
        return gone

    def cancel(self, token, paths):
        """By its token; else, as the specification knows only paths, by what it observes."""
        if self.remove(token):
            return
        for each in [each.token for each in self.observations.values() if each.paths == paths]:
            self.remove(each)

    def clear(self):
        for token in list(self.observations):
            self.remove(token)

    # Changes.

    def changed(self, paths):
        """Resources have new values: who observes them may have to be told."""
        for observation in list(self.observations.values()):
            if any(_touches(mine, path) for mine in observation.paths for path in paths):
                if self._worth_telling(observation):
                    observation.changed = True
                self._arm(observation)

    def rearm(self):
        """Attributes have changed."""
        for observation in self.observations.values():
            self._arm(observation)

    def resume(self, storing):
        """What changed meanwhile is told, as it is now, if the server wants it stored."""
        self.paused = False
        for observation in self.observations.values():
            observation.changed = observation.changed and storing
        self.rearm()

    def _worth_telling(self, observation):
        """gt, lt, st and edge, where they are set, decide; otherwise each change is told."""
        before, after = observation.last_values, self.device.values_of(observation)
        if len(observation.paths) != 1:
            return True
        attributes = self._attributes(observation)
        edge = attributes.get("edge")
        conditions = [name for name in THRESHOLDS if attributes.get(name) is not None]
        if edge is None and not conditions:
            return True
        for path, new in after.items():
            old = before.get(path)
            if edge is not None and isinstance(new, bool) and old != new and new == bool(edge):
                return True
            if isinstance(old, bool) or not isinstance(new, (int, float)) or not isinstance(old, (int, float)):
                continue
            # Crossing counts in both directions.
            gt, lt = attributes.get("gt"), attributes.get("lt")
            if gt is not None and (old > gt) != (new > gt):
                return True
            if lt is not None and (old < lt) != (new < lt):
                return True
            if attributes.get("st") is not None and abs(new - old) >= attributes["st"]:
                return True
        return False

    def _attributes(self, observation):
        # A composite observation has the periods of the server only: 1.1 has no attributes for it.
        path = () if observation.composite else observation.paths[0]
        return {**self.device.attributes_of(path), **observation.own_attributes}

    def _arm(self, observation):
        """Sends what is due now, and sets the timer for what is due later."""
        if observation.timer:
            observation.timer.cancel()
            observation.timer = None
        if self.paused:
            return
        attributes = self._attributes(observation)
        pmin, pmax = attributes.get("pmin") or 0, attributes.get("pmax") or 0
        if pmax and pmax < pmin:
            pmax = 0
        elapsed = time.monotonic() - observation.last_time
        wait = None
        if observation.changed:
            wait = max(0, pmin - elapsed)
        elif pmax:
            wait = max(0, pmax - elapsed)
        if wait is None:
            return
        if wait == 0:
            self.send(observation, bool(attributes.get("con")))
        else:
            loop = asyncio.get_running_loop()
            observation.timer = loop.call_later(wait, self._due, observation)

    def _due(self, observation):
        observation.timer = None
        if observation.token in self.observations and not self.paused:
            self.send(observation, bool(self._attributes(observation).get("con")))

    # Telling.

    def send(self, observation, confirmable=False):
        """Tells the values of now."""
        try:
            payload = self.device.represent(observation)
        except Refused as refused:
            # What was observed is gone: the error ends the observation. [RFC 7641, 4.2]
            self._ship(observation, coap.message(coap.code_of(refused.code)), True)
            self.remove(observation.token)
            return
        observation.sequence = observation.sequence + 1 & 0xFFFFFF
        observation.last_time = time.monotonic()
        observation.last_values = self.device.values_of(observation)
        observation.changed = False
        told = coap.message(
            aiocoap.CONTENT, payload=payload, content_format=observation.form, observe=observation.sequence
        )
        told = self.device.endpoint.cut(told, observation.key)
        self._ship(observation, told, confirmable or self.device.confirmable_notifications)
        self._arm(observation)

    def _ship(self, observation, told, confirmable):
        told.token = observation.token
        if confirmable:
            told.mtype = coap.CON
            observation.queue.append(told)
            if not observation.sending:
                observation.sending = True
                self.device.endpoint.spawn(self._drain(observation))
        else:
            told.mtype = coap.NON
            self.device.endpoint.notify(told, observation.address, lambda: self._refused(observation, "reset"))
            self._event(observation, told)

    async def _drain(self, observation):
        while observation.queue:
            told = observation.queue.pop(0)
            self._event(observation, told)
            outcome = await self.device.endpoint.transmit(told, observation.address)
            if outcome != "acked":
                observation.queue.clear()
                self._refused(observation, outcome)
            else:
                self._outcome(observation, outcome)
        observation.sending = False

    def _refused(self, observation, outcome):
        self.remove(observation.token)
        self._outcome(observation, outcome)

    def _event(self, observation, told):
        self.device.tell(
            event="notified",
            path=_name(observation),
            sequence=told.opt.observe,
            code=told.code.dotted,
            type=told.mtype.name,
            content_format=coap.number(told.opt.content_format),
            payload_hex=told.payload.hex(),
            token_hex=told.token.hex(),
        )

    def _outcome(self, observation, outcome):
        self.device.tell(
            event="notification", outcome=outcome, path=_name(observation), token_hex=observation.token.hex()
        )


def _touches(mine, path):
    short = min(len(mine), len(path))
    return mine[:short] == path[:short]


def _name(observation):
    return ",".join(text_of(path) for path in observation.paths)
