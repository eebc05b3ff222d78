"""The typed surface: what is promised in signatures and stubs is what there is."""

import ast
import importlib.resources
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import navmap
import navmap.convert
import navmap.errors
import navmap.index
import navmap.report
from navmap import _core

PACKAGE = importlib.resources.files("navmap")

SIGNATURES = {
    "create": (
        "(path, space, dim, *, M=16, ef_construction=200, random_seed=100, max_elements=None, "
        "allow_replace_deleted=False, durability='full', codes='i8', "
        "dtype='f32', overwrite=False)"
    ),
    "open": "(path, mode='r', *, timeout=0.0, durability='full', checkpoint_bytes=None)",
    "verify": "(path, quick=False)",
    "simd": "()",
    "Index": "(space=None, dim=None, *, params=None, index=None)",
    "Index.init_index": (
        "(self, max_elements, M=16, ef_construction=200, random_seed=100, "
        "allow_replace_deleted=False, *, codes='i8', dtype='f32')"
    ),
    "Index.add_items": (
        "(self, data, ids=None, num_threads=-1, replace_deleted=False, *, progress=None, "
        "reproducible=False)"
    ),
    "Index.knn_query": (
        "(self, data, k=1, num_threads=-1, filter=None, *, ef=None, allow_fewer=False, "
        "target_recall=None, stop=None)"
    ),
    "Index.explain": "(self, data, k=1, filter=None, *, ef=None, target_recall=None, stop=None)",
    "Index.exact_query": "(self, data, k=1, *, filter=None, num_threads=-1, allow_fewer=False)",
    "Index.mark_deleted": "(self, label)",
    "Index.unmark_deleted": "(self, label)",
    "Index.get_items": "(self, ids=None, return_type='numpy')",
    "Index.get_ids_list": "(self, include_deleted=True)",
    "Index.flush": "(self)",
    "Index.warmup": "(self, *, vectors=True, lock=False, larger_than_memory=False)",
    "Index.compact": (
        "(self, *, keep_deleted=False, keep_order=False, refine=False, M=None, "
        "ef_construction=None, codes='keep', output=None, directory=False, num_threads=-1, progress=None)"
    ),
    "Index.calibrate": "(self, *, samples=500, num_threads=-1, progress=None)",
    "Index.close": "(self)",
    "Index.stats": "(self)",
    "Index.set_ef": "(self, ef)",
    "Index.set_num_threads": "(self, num_threads)",
    "Index.resize_index": "(self, new_size)",
    "Index.get_max_elements": "(self)",
    "Index.get_current_count": "(self)",
    "Index.check": "(self)",
    "Index.verify": "(self, *, graph=True)",
    "Index.vacuum": "(self, *, num_threads=-1, progress=None)",
    "Index.save_index": "(self, path_to_index)",
    "Index.load_index": (
        "(self, path_to_index, max_elements=0, allow_replace_deleted=False, *, copy=False, "
        "verify=False)"
    ),
    "Index.index_file_size": "(self)",
    "Filter": "(index, labels, deny=False)",
    "Filter.stats": "(self)",
    "BFIndex": "(space, dim)",
    "BFIndex.init_index": "(self, max_elements)",
    "BFIndex.add_items": "(self, data, ids=None)",
    "BFIndex.delete_vector": "(self, label)",
    "BFIndex.knn_query": "(self, data, k=1, num_threads=-1, filter=None)",
    "BFIndex.save_index": "(self, path_to_index)",
    "BFIndex.load_index": "(self, path_to_index, max_elements=0, *, copy=False, verify=False)",
    "BFIndex.set_num_threads": "(self, num_threads)",
    "BFIndex.get_max_elements": "(self)",
    "BFIndex.get_current_count": "(self)",
}
PROPERTIES = {
    "space", "dim", "M", "ef_construction", "max_elements", "element_count", "ef", "path", "mode",
    "closed", "deleted_count", "calibration", "num_threads",
}  # fmt: skip
WRITABLE = {"ef", "num_threads"}


def resolve(dotted):
    value = navmap
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def bare(function):
    """The signature without annotations."""
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(
        signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    )


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    assert bare(resolve(name)) == SIGNATURES[name]


def test_nothing_public_is_missing_from_the_lists():
    kinds = (("Index", PROPERTIES), ("BFIndex", {"num_threads"}), ("Filter", {"deny"}))
    for kind, properties in kinds:
        public = {name for name in dir(getattr(navmap, kind)) if not name.startswith("_")}
        methods = {name.split(".")[1] for name in SIGNATURES if name.startswith(f"{kind}.")}
        assert public == methods | properties
    for name in navmap.__all__:
        assert hasattr(navmap, name)


@pytest.mark.parametrize("kind", ["Index", "BFIndex", "Filter"])
def test_the_readmes_table_is_whole_and_true(kind):
    """Every method and property is in it, methods with the arguments that they have."""
    readme = Path(__file__).parents[2].joinpath("README.md").read_text()
    table = re.search(rf"^\| `{kind}` \|.*?\n\n", readme, re.DOTALL | re.MULTILINE).group()
    told: dict[str, str] = {}
    for text in re.findall(r"`(\w[^`]*)`", table):  # what is named first is the entry
        told.setdefault(re.match(r"\w+", text).group(), text)
    owner = getattr(navmap, kind)
    for name in dir(owner):
        if name.startswith("_"):
            continue
        if callable(getattr(owner, name)):
            called = bare(getattr(owner, name)).replace("(self, ", "(").replace("(self)", "()")
            assert told[name] == name + called.replace("'", '"')
        else:
            assert told[name] == name


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_properties(name):
    attribute = inspect.getattr_static(navmap.Index, name)
    assert isinstance(attribute, property) and attribute.__doc__
    assert (attribute.fset is not None) == (name in WRITABLE)


def test_everything_is_documented_and_annotated():
    for name in (*SIGNATURES, "Report", "CheckReport", "Finding"):
        assert resolve(name).__doc__, name
    for name in SIGNATURES:
        signature = inspect.signature(resolve(name))
        assert signature.return_annotation is not signature.empty or name.endswith("Index"), name
        for parameter in signature.parameters.values():
            if parameter.name != "self":
                assert parameter.annotation is not parameter.empty, (name, parameter)


def test_py_typed_and_stubs_are_installed():
    assert PACKAGE.joinpath("py.typed").is_file()
    assert PACKAGE.joinpath("_core.pyi").is_file()


def stub_functions(body):
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def documented(function):
    """Parameter names from a docstring's first line, `name(a, b, /) -> type`."""
    line = function.__doc__.splitlines()[0]
    inside = line[line.index("(") + 1 : line.index(")")]
    return [name.strip() for name in inside.split(",") if name.strip() not in ("", "/")]


def stubbed(node):
    return [arg.arg for arg in node.args.posonlyargs + node.args.args if arg.arg != "self"]


def test_the_stub_and_the_extension_agree():
    tree = ast.parse(PACKAGE.joinpath("_core.pyi").read_text())
    functions = stub_functions(tree.body)
    handle = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    methods = stub_functions(handle.body)
    assert {n for n in vars(_core) if not n.startswith("_")} == {
        *functions,
        *("FilterSet", "Handle", "version"),
    }
    assert {n for n in vars(_core.Handle) if not n.startswith("_")} == set(methods)
    for name, node in functions.items():
        assert documented(getattr(_core, name)) == stubbed(node), name
    for name, node in methods.items():
        if name != "closed":
            assert documented(getattr(_core.Handle, name)) == stubbed(node), name


def test_version():
    assert navmap.__version__ == _core.version and navmap.__version__[0].isdigit()


def test_the_extension_takes_nothing_but_exact_arguments(make):
    """It guards itself, also against a mistake in the layer above."""
    import numpy as np

    handle = make("l2", 4)._handle
    good, labels = np.zeros((2, 4), np.float32), np.zeros(2, np.uint64)
    one, two = np.zeros((2, 1), np.uint64), np.zeros((2, 1), np.float32)
    strided = np.zeros(4, np.uint64)[::2]
    readonly = one.copy()
    readonly.flags.writeable = False
    for arguments, error in [
        ((good.astype(np.float64), None, 1, False, None, False), TypeError),
        ((good.astype(">f4"), None, 1, False, None, False), TypeError),
        ((good.astype(np.int32), None, 1, False, None, False), TypeError),
        ((np.zeros((4, 2), np.float32).T, None, 1, False, None, False), (ValueError, BufferError)),
        ((good[:, ::2], None, 1, False, None, False), (ValueError, BufferError)),
        ((good[0], None, 1, False, None, False), TypeError),
        ((good[:, :3].copy(), None, 1, False, None, False), ValueError),
        ((good, labels[:1], 1, False, None, False), ValueError),
        ((good, labels.astype(np.int64), 1, False, None, False), TypeError),
        ((good, labels.astype(np.uint32), 1, False, None, False), TypeError),
        ((good, [0, 1], 1, False, None, False), TypeError),
        ((b"12345678", None, 1, False, None, False), TypeError),
        ((good,), TypeError),
        ((good, labels, -1, False, None, False), OverflowError),
        ((good, labels, 2**32, False, None, False), OverflowError),
        ((good, labels, None, False, None, False), TypeError),
    ]:
        with pytest.raises(error):
            handle.add(*arguments)
    for arguments, error in [
        ((False, good, -1, 1, None, False, one, two), OverflowError),
        ((False, good, 2**32, 1, None, False, one, two), OverflowError),
        ((False, good, 1.0, 1, None, False, one, two), TypeError),
        ((False, good[:, :3].copy(), 1, 1, None, False, one, two), ValueError),
        ((False, good, 1, 1, None, False, one[:1], two), ValueError),
        ((False, good, 1, 1, None, False, one, two[:1]), ValueError),
        ((False, good, 1, 1, None, False, one, np.zeros((2, 2), np.float32)), ValueError),
        ((False, good, 1, 1, None, False, readonly, two), (ValueError, BufferError)),
        ((False, good, 1, 1, None, False, two, one), TypeError),
        ((False, good, 1, -1, None, False, one, two), OverflowError),
        ((False, good, 1, 1.5, None, False, one, two), TypeError),
        ((False, good, 1, 1, [0, 1], False, one, two), TypeError),
        ((False, good, 1, 1, labels.astype(np.int64), False, one, two), TypeError),
        ((False, good, 1, 1, one, False, one, two), TypeError),
        ((False, good, 1, 1, strided, False, one, two), (ValueError, BufferError)),
    ]:
        with pytest.raises(error):
            handle.search(*arguments)
    for arguments, error in [
        ((labels, good[:1]), ValueError),
        ((labels, np.zeros((2, 3), np.float32)), ValueError),
        ((labels, bytes(32)), (TypeError, BufferError)),
    ]:
        with pytest.raises(error):
            handle.get(*arguments)
    for numbers in (good[0], labels, good.astype(np.float64), good[:, ::2], [[1.0]]):
        with pytest.raises((TypeError, ValueError, BufferError)):
            _core.first_unfinite(numbers)
    for label in (-1, 2**64, 1.5, "1", None):
        for method in (handle.delete, handle.undelete, handle.contains, handle.resize):
            with pytest.raises((TypeError, OverflowError)):
                method(label)
    assert handle.stats()["n_live"] == 0


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy():
    for command in (["mypy", "--strict", "-p", "navmap"], ["mypy.stubtest", "navmap"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd="/", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
