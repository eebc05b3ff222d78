"""The models of every object and of every file of a program."""

from dataclasses import dataclass
from typing import Any

from differential import model
from differential.expected import Refusal, truth, whole
from differential.model import Facts
from differential.steps import COPIERS, IMPORTERS, MAKERS, THEIRS, Env, File, Step, Var

MISSING = Refusal("NoIndexError", "Cannot open file")
UNSUPPORTED = Refusal("Error", "Index seems to be corrupted or unsupported")
NO_FOLDER = Refusal("NoIndexError")
A_FOLDER = Refusal("InvalidInputError")


@dataclass
class Stored:
    """A file: what was saved in it, None if that never was an index; and what was done to it."""

    saved: Any
    theirs: bool = False  # hnswlib's form
    damage: str = ""


class Models:
    def __init__(self, env: Env) -> None:
        self.env = env
        self.objects: dict[str, Any] = {}
        self.files: dict[str, Stored] = {}

    def knows(self, step: Step) -> bool:
        """Can the step be done, or has an earlier one gone that it needs?"""
        if step.call in IMPORTERS:
            return step.args[0].name in self.env.theirs
        if step.call == "damage":
            source = self.files.get(step.args[0].name)
            return source is not None and source.saved is not None and not source.damage
        if step.call == "try_out":
            return step.args[3].name in self.files
        others = [a.name for a in step.args if isinstance(a, Var)]
        needed = others if step.call in MAKERS or step.call in COPIERS else [step.target, *others]
        return all(name in self.objects for name in needed) and self._foreseeable(step)

    def _foreseeable(self, step: Step) -> bool:
        """A byte that changed is noticed with `verify`, and in hnswlib's files perhaps."""
        if step.call != "load_index":
            return True
        file = self.files.get(step.args[0].name)
        if file is None or file.damage != "flip":
            return True
        return not file.theirs and bool(dict(step.kwargs).get("verify"))

    def apply(self, step: Step) -> Any:
        """What the step must return; raises `Refusal` if it must raise."""
        kwargs = dict(step.kwargs)
        target: Any = self.objects.get(step.target)
        if step.call in MAKERS:
            self.objects[step.target] = self._made(step.call, *step.args, **kwargs)
            return None
        if step.call in COPIERS:
            self.objects[step.target] = self._copied(step)
            return None
        if step.call in IMPORTERS:
            self.objects[step.target] = self._imported(step)
            return None
        if step.call == "try_out":
            return None
        if step.call.startswith("set "):
            return getattr(target, f"set_{step.call[4:]}")(self.env, *step.args)
        if step.call == "in":
            return target.contains(self.env, *step.args)
        if step.call == "damage":
            return self.damage(*step.args)
        if step.call in ("save_index", "load_index", "index_file_size", "verify"):
            return getattr(self, step.call)(target, *step.args, **kwargs)
        return getattr(target, step.call)(self.env, *step.args, **kwargs)

    # Objects ----------------------------------------------------------------------------------

    def _made(self, kind: str, space: Any, dim: Any) -> Any:
        if space not in ("l2", "ip", "cosine"):
            raise Refusal("InvalidInputError", "Space name must be one of l2, ip, or cosine.")
        if not 1 <= whole(dim, -(2**31), 2**31 - 1) <= 65536:
            raise Refusal("InvalidInputError", "dim must be from 1 to 65536")
        return getattr(model, kind)(space, dim)

    def _copied(self, step: Step) -> Any:
        other = self.objects[step.args[0].name]
        if isinstance(other, model.BFIndex):
            raise Refusal("TypeError")
        return other.copied()

    def _imported(self, step: Step) -> Any:
        other = self.objects[step.args[0].name].copied()
        other.num_threads = None  # peer.py may have given hnswlib another number
        return other

    # Files ------------------------------------------------------------------------------------

    def save_index(self, target: Any, path: File) -> None:
        target.handle()
        if path.name.startswith("nowhere"):
            raise NO_FOLDER
        if path.name == "folder":
            raise A_FOLDER
        self.files[path.name] = Stored(target.clone())

    def saved_by_hnswlib(self, target: Any, path: File) -> None:
        self.files[path.name + THEIRS] = Stored(target.clone(), theirs=True)

    def load_index(
        self,
        target: Any,
        path: File,
        max_elements: Any = 0,
        allow_replace_deleted: Any = False,
        copy: Any = False,
        verify: Any = False,
    ) -> None:
        limit, replaces = whole(max_elements), truth(allow_replace_deleted)
        truth(copy), truth(verify)
        if path.name == "folder":
            raise UNSUPPORTED
        file = self.files.get(path.name)
        if file is None:
            raise MISSING
        saved = file.saved
        if file.damage or type(saved) is not type(target) or saved.dim != target.dim:
            raise UNSUPPORTED
        target.items = saved.clone().items
        target.rounded |= saved.rounded
        other = target.space == "cosine" != saved.space
        target.mixed = other or (saved.mixed and target.space == "cosine")
        enough = limit >= len(saved.items) and limit > 0
        target.max_elements = limit if enough else saved.max_elements
        if isinstance(target, model.Index):
            target.M, target.ef_construction = saved.M, saved.ef_construction
            target.replaces = replaces
        target.state = "open"

    def damage(self, source: File, target: File, how: str, at: float) -> None:
        was = self.files[source.name]
        self.files[target.name] = Stored(was.saved, was.theirs, how)

    def index_file_size(self, target: Any) -> Any:
        target.handle()
        return Size(self.env)

    def verify(self, target: Any, path: File) -> Facts:
        return Facts(sound=True, labels=len(self.files[path.name].saved.items))


class Size:
    """What `save_index` writes, to the byte."""

    def __init__(self, env: Env) -> None:
        self.path = env.scratch / "measured"

    def judge(self, result: Any, index: Any) -> str | None:
        index.save_index(str(self.path))
        size = self.path.stat().st_size
        return None if result == size else f"said {result}, wrote {size}"
