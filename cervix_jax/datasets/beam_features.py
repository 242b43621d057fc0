"""Features of photographs, extracted on several machines with Apache Beam (extra `beam`) before a data set is built.

Each photograph goes through the function that `feature_cache.extract_all` calls, wherever Beam's runner takes it. The
results fill the cache that the builder reads, so examples are those of one machine to the last bit.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow
from apache_beam.options.pipeline_options import PipelineOptions
from pyarrow import parquet

from cervix_jax.datasets import feature_cache
from cervix_jax.datasets.feature_cache import FeatureRecord, Result, read_and_extract

_SCHEMA = pyarrow.schema(
    {
        "digest": pyarrow.string(),
        "reason": pyarrow.string(),
        "jpeg": pyarrow.binary(),
        "original_size": pyarrow.list_(pyarrow.int32()),
        "histograms": pyarrow.binary(),
        "sharpness": pyarrow.float64(),
        "signature": pyarrow.binary(),
    }
)


def extract_all(sources: Mapping[str, Path], cache: Path, options: Sequence[str], *, inside: Path | None = None) -> int:
    """Extracts the features of all photographs, and puts them where `feature_cache.extract_all` finds them.

    Args:
      sources: files by name; all machines see them, and the folder of the cache, under these paths.
      cache: SQLite file; made if missing.
      options: Beam's, such as `--runner=DirectRunner`.
      inside: folder that no file may lie outside of, by a link.

    Returns:
      The number of files, whether they can be decoded or not.
    """
    shared = cache.with_suffix(".beam")
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        (
            pipeline
            | "names" >> beam.Create(list(sources.items()))
            | "to all machines" >> beam.Reshuffle()
            | "extract" >> beam.Map(partial(read_and_extract, cached=frozenset(), inside=inside))
            | "opened" >> beam.Filter(lambda result: result[1] is not None)
            | "rows" >> beam.Map(_row)
            | "write" >> beam.io.WriteToParquet(str(shared / "features"), _SCHEMA, file_name_suffix=".parquet")
        )
    count = feature_cache.insert(_records(shared), cache)
    shutil.rmtree(shared)
    return count


def _row(result: Result) -> dict[str, Any]:
    _, digest, record = result
    return {"digest": digest, **{name: getattr(record, name) for name in _SCHEMA.names[1:]}}


def _records(folder: Path) -> Iterator[tuple[str, FeatureRecord]]:
    for path in sorted(folder.glob("features*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(64):
            for row in batch.to_pylist():
                digest = row.pop("digest")
                yield digest, FeatureRecord(**row | {"original_size": tuple(row["original_size"])})
