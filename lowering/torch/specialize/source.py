"""From an operation's MLIR location to the place in the user's source."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, CallSiteLoc, FileLineColLoc, FusedLoc, LocationAttr, NameLoc
from xdsl.ir import Operation

from stepwell.dialects.diagnostics import Location


def source_location(op: Operation) -> Location | None:
    """The file, line and column that an operation came from; None if it carries none."""
    return _location(op.location)


def _location(attribute: LocationAttr) -> Location | None:
    if isinstance(attribute, FileLineColLoc):
        return Location(attribute.filename.data, attribute.line.data, attribute.column.data)
    if isinstance(attribute, FusedLoc):
        parts = attribute.locations.data if isinstance(attribute.locations, ArrayAttr) else ()
        return next((found for p in parts if isinstance(p, LocationAttr) and (found := _location(p))), None)
    if isinstance(attribute, (NameLoc, CallSiteLoc)):
        for part in attribute.parameters:
            if isinstance(part, LocationAttr) and (found := _location(part)):
                return found
    return None
