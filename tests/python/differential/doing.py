"""Steps are done here: on navmap for world.py, on hnswlib for peer.py."""

import copy
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import navmap
from differential.steps import COPIERS, FUNCTIONS, IMPORTERS, MAKERS, Env, Step, value_of


def perform(step: Step, env: Env, module: Any) -> Any:
    """Do what a step says, with the objects in `env`."""
    if step.call in IMPORTERS:
        env.objects[step.target] = import_from(step.call, env.theirs[step.args[0].name], module)
        return None
    args = [value_of(a, env) for a in step.args]
    kwargs = {name: value_of(a, env) for name, a in step.kwargs}
    target: Any = env.objects.get(step.target)
    if step.call in MAKERS:
        env.objects[step.target] = getattr(module, step.call)(*args, **kwargs)
    elif step.call in COPIERS:
        env.objects[step.target] = duplicate(step.call, args[0])
    elif step.call in FUNCTIONS:
        damage(*args) if step.call == "damage" else try_out(module, *args, **kwargs)
    elif step.call.startswith("set "):
        setattr(target, step.call[4:], args[0])
    elif step.call == "in":
        return args[0] in target
    elif step.call == "facts":
        return facts(target)
    elif step.call == "verify":
        report = navmap.verify(args[0])
        return {"sound": report.sound, "labels": report.labels}
    else:
        return getattr(target, step.call)(*args, **kwargs)
    return None


def facts(index: Any) -> dict[str, Any]:
    names = "space dim M ef_construction ef num_threads max_elements element_count deleted_count"
    result = {name: getattr(index, name) for name in names.split() if hasattr(type(index), name)}
    if hasattr(type(index), "__len__"):
        result["length"] = len(index)
    return result


def duplicate(how: str, index: Any) -> Any:
    match how:
        case "copy.copy":
            return copy.copy(index)
        case "copy.deepcopy":
            return copy.deepcopy(index)
        case "Index(index)":
            return type(index)(index=index)
        case "Index(params)":
            return type(index)(params=index.__getstate__()[0])
    return pickle.loads(pickle.dumps(index, int(how[-1])))


def import_from(how: str, theirs: Any, module: Any) -> Any:
    """What hnswlib's object says of itself, taken by navmap."""
    if how == "hnswlib's params":
        return module.Index(params=theirs.__getstate__()[0])
    return unpickled_as(module, pickle.dumps(theirs, int(how[-1])))


def unpickled_as(module: Any, pickled: bytes) -> Any:
    """A pickle names the module hnswlib."""
    with mock.patch.dict(sys.modules, hnswlib=module):
        return pickle.loads(pickled)


def damage(source: str, target: str, how: str, at: float) -> None:
    """A copy of a file with something wrong; `at` is a part of it, below 1."""
    data = bytearray(Path(source).read_bytes())
    match how:
        case "cut":
            del data[int(at * len(data)) :]
        case "longer":
            data += bytes(1 + int(at * 100))
        case "flip":  # what is zero may be padding, of which nothing depends
            bytes_set = np.flatnonzero(np.frombuffer(data, np.uint8))
            data[bytes_set[int(at * len(bytes_set))]] ^= 1 << int(at * 997) % 8
    Path(target).unlink(missing_ok=True)
    Path(target).write_bytes(data)


def try_out(module: Any, kind: str, space: str, dim: int, path: str, verify: bool = False) -> None:
    """Whatever a file holds: it is refused, or what it gives can be used, and refuses to go on
    where it notices."""
    index = getattr(module, kind)(space, dim)
    zeros = np.zeros((1, dim), np.float32)
    try:
        index.load_index(path, verify=verify)
    except RuntimeError:
        return
    uses: list[Callable[[], object]] = [
        lambda: index.knn_query(zeros, 3),
        lambda: index.add_items(zeros, [7]),
        lambda: index.save_index(path + ".again"),
    ]
    if kind == "Index":
        uses += [
            lambda: index.get_items(index.get_ids_list(include_deleted=False)),
            lambda: index.mark_deleted(7),
            lambda: index.knn_query(zeros + 1, 5, filter=range(50)),
            index.check,
        ]
    for use in uses:
        with suppress(RuntimeError):
            use()
