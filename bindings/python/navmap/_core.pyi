# The extension in C: exact arguments, no conversion.  Arrays are C-contiguous and aligned.
from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt

version: str

@final
class Handle:
    @property
    def closed(self) -> bool: ...
    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint64] | None,
        num_threads: int,
        replace_deleted: bool,
        progress: Callable[[int, int], object] | None,
        reproducible: bool,
        /,
    ) -> int: ...
    def search(
        self,
        exact: bool,
        queries: npt.NDArray[np.float32],
        ef: int,
        num_threads: int,
        filter: Callable[[int], object]
        | npt.NDArray[np.uint64]
        | FilterSet
        | tuple[FilterSet | None, ...]
        | None,
        allow_fewer: bool,
        labels: npt.NDArray[np.uint64],
        distances: npt.NDArray[np.float32],
        counts: npt.NDArray[np.uint64] | None = None,
        stop: float = 0.0,
        /,
    ) -> tuple[int, int] | None: ...
    def filter(self, labels: npt.NDArray[np.uint64], deny: bool, /) -> FilterSet: ...
    def filter_look(self, filter: FilterSet, /) -> dict[str, int]: ...
    def delete(self, label: int, /) -> None: ...
    def undelete(self, label: int, /) -> None: ...
    def remove(self, label: int, /) -> None: ...
    def contains(self, label: int, /) -> bool: ...
    def get(
        self, labels: npt.NDArray[np.uint64], vectors: npt.NDArray[np.float32], /
    ) -> None: ...
    def labels(self, include_deleted: bool, labels: npt.NDArray[np.uint64], /) -> int: ...
    def resize(self, max_elements: int, /) -> None: ...
    def flush(self) -> None: ...
    def warm(self, flags: int, /) -> None: ...
    def vacuum(
        self, num_threads: int, progress: Callable[[int, int], object] | None, /
    ) -> dict[str, int]: ...
    def compact(
        self,
        keep_deleted: bool,
        keep_order: bool,
        refine: bool,
        M: int,
        ef_construction: int,
        codes: int,
        output: bytes | None,
        directory: bool,
        num_threads: int,
        progress: Callable[[int, int], object] | None,
        /,
    ) -> dict[str, int]: ...
    def calibrate(
        self, samples: int, num_threads: int, progress: Callable[[int, int], object] | None, /
    ) -> tuple[int, list[list[int]]]: ...
    def calibration(self) -> tuple[int, list[list[int]]]: ...
    def ef_for_recall(self, k: int, recall: float, /) -> int: ...
    def save(self, path: bytes, /) -> None: ...
    def save_fd(self, fd: int, /) -> None: ...
    def file_bytes(self) -> int: ...
    def check(self) -> tuple[dict[str, Any], list[tuple[bool, str, int, int, str]]]: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...

@final
class FilterSet: ...

def create(
    path: bytes,
    space: int,
    dim: int,
    M: int,
    ef_construction: int,
    random_seed: int,
    max_elements: int,
    allow_replace_deleted: int,
    durability: int,
    codes: int,
    vectors: int,
    overwrite: int,
    /,
) -> Handle: ...
def open(
    path: bytes, mode: int, durability: int, timeout: float, checkpoint_bytes: int, /
) -> Handle: ...
def new(
    space: int,
    dim: int,
    M: int,
    ef_construction: int,
    random_seed: int,
    max_elements: int,
    allow_replace_deleted: int,
    flat: int,
    codes: int,
    vectors: int,
    /,
) -> Handle: ...
def load(
    path: bytes,
    dim: int,
    space: int,
    max_elements: int,
    allow_replace_deleted: int,
    flat: int,
    copy: int,
    verify: int,
    /,
) -> Handle: ...
def load_fd(
    fd: int,
    name: bytes,
    dim: int,
    space: int,
    max_elements: int,
    allow_replace_deleted: int,
    flat: int,
    copy: int,
    verify: int,
    /,
) -> Handle: ...
def verify(
    path: bytes, quick: bool, /
) -> tuple[dict[str, int], list[tuple[bool, str, int, int, str]]]: ...
def first_unfinite(numbers: npt.NDArray[np.float32], /) -> int: ...
def simd() -> str: ...
def default_threads() -> int: ...
