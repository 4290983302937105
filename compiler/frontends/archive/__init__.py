"""TorchScript archives (`torch.jit.save`), read without torch and without executing anything in them.

`read` gives an `ArchiveData`: the module's attributes as plain data over numpy views, and its program as Python `ast`
nodes found by qualified name. The front end that turns both into IR stands on top of this package.
"""

from stepwell.compiler.frontends.archive.code import ClassRecord, CodeIndex, Constant, FunctionRecord
from stepwell.compiler.frontends.archive.limits import Limits
from stepwell.compiler.frontends.archive.load import ArchiveData, read
from stepwell.compiler.frontends.archive.upgraders import upgrade
from stepwell.compiler.frontends.archive.values import (
    DeviceData,
    DictData,
    EnumData,
    ListData,
    ScriptObjectData,
    Storage,
    TensorData,
)

__all__ = [
    "ArchiveData",
    "ClassRecord",
    "CodeIndex",
    "Constant",
    "DeviceData",
    "DictData",
    "EnumData",
    "FunctionRecord",
    "Limits",
    "ListData",
    "ScriptObjectData",
    "Storage",
    "TensorData",
    "read",
    "upgrade",
]
