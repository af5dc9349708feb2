"""Read and write Parquet files. The only module that imports pyarrow."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reviewtune.errors import DataError

MAGIC, ENDING = b"PAR1", ".parquet"
AT_ONCE = 1_000  # rows that are decoded at a time
BUFFER = 2**20  # bytes of a column that are read at a time
TYPES: Mapping[type, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def is_parquet(path: Path) -> bool:
    """By the content or the name: a pointer that stands for such a file must not be taken for a CSV of one column."""
    if path.suffix.lower() == ENDING:
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns, not those inside a nested one.

    Raises:
        DataError: the file is damaged, or has two columns of the same name.
    """
    with _opened(path) as file:
        names = tuple(file.schema_arrow.names)
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path}: {names.count(name)} columns are called '{name}'; rename all but one")
    return names


def row_count(path: Path) -> int:
    """The number of rows, which is in the file's footer.

    Raises:
        DataError: the file is damaged.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def refuse_other_types(path: Path, columns: Sequence[str]) -> None:
    """Refuse columns whose values cannot be written as text, such as lists.

    Raises:
        DataError: the file has such a column, or is damaged.
    """
    with _opened(path) as file:
        for name in columns:
            kind = file.schema_arrow.field(name).type
            try:
                pa.nulls(0, kind).cast(pa.string())
            except pa.ArrowException as error:
                raise DataError(
                    f"{path}: column '{name}' is {kind}; only a column of single values can be read"
                ) from error


def stream(path: Path, columns: Sequence[str], *, skip: int = 0) -> Iterator[tuple[str | None, ...]]:
    """The rows of a file of any size, with the memory of a few of them.

    Args:
        path: the file.
        columns: whose values are read, as text; None is a missing value.
        skip: rows at the beginning that are left out.

    Raises:
        DataError: the file is damaged.
    """
    with _opened(path) as file:
        groups, skip = _groups_after(file, skip)
        for batch in file.iter_batches(AT_ONCE, row_groups=groups, columns=[*dict.fromkeys(columns)]):
            rows, skip = batch.slice(skip), max(skip - batch.num_rows, 0)
            yield from zip(*(rows.column(name).cast(pa.string()).to_pylist() for name in columns), strict=True)


def to_bytes(columns: Mapping[str, type], rows: Sequence[Sequence[object]]) -> bytes:
    """The content of a Parquet file.

    Args:
        columns: names, with str, int, float or bool as the type of their values.
        rows: cells in the order of the columns; None is a missing value.
    """
    schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
    arrays = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema)]
    target = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), target)
    return target.getvalue()


def _groups_after(file: Any, skip: int) -> tuple[list[int], int]:  # noqa: ANN401 - pyarrow has no types
    """The row groups that are left when `skip` rows are left out, and how many are left out in the first of them."""
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if skip < rows:
            return list(range(group, file.num_row_groups)), skip
        skip -= rows
    return [], 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER) as file:
            yield file
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a text in it is not UTF-8 ({error}); write it again") from error
    except pa.ArrowException as error:
        raise DataError(f"{path}: this Parquet file is damaged ({error}); write it again") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"{path}: this Parquet file is damaged ({error}); write it again") from error
