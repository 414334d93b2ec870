"""Hardcarrx's header line: by which provider and model a request was answered."""

from pointsman.hub.profile_headers import Answering, plain
from pointsman.routing.metadata import model_of


def hardcarrx_lines(entry: Answering) -> bytes:
    """``x-hardcarrx``. Neither a cache of answers nor a memory takes part in a call, and it says so."""
    target = entry.target
    if target is None:
        return b""
    route = b"%b:%b" % (plain(target.connection.vendor), plain(model_of(target)))
    return b"x-hardcarrx: route=%b; cache=skipped; mem=skipped\r\n" % route
