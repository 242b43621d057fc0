"""Measures photographs on several machines, with Apache Beam (extra `beam`), before a data set is built.

Each photograph goes through the function that `measuring` calls, wherever Beam's runner takes it; what comes back fills
the cache by content that the builder reads, so examples are those of one machine to the last bit. Histograms are also
summed up where they are (`cleaning.Moments`), part by part: mean, covariance and so `cleaning.Gaussian` of a part
follow from these sums, for whoever has no table of all photographs. The builder has one.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow
from apache_beam.options.pipeline_options import PipelineOptions
from pyarrow import parquet

from cervix_jax.datasets import feature_cache
from cervix_jax.datasets.cleaning import Moments
from cervix_jax.datasets.feature_cache import Measured, Result, read_and_extract
from cervix_jax.images.features import NUM_FEATURES

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


class SumMoments(beam.CombineFn):
    """Adds up the moments of histograms."""

    def create_accumulator(self) -> Moments:
        return Moments.of(np.zeros((0, NUM_FEATURES)))

    def add_input(self, accumulator: Moments, histograms: bytes) -> Moments:
        return accumulator + Moments.of(np.frombuffer(histograms, np.float32)[None])

    def merge_accumulators(self, accumulators: Sequence[Moments]) -> Moments:
        return sum(accumulators, self.create_accumulator())

    def extract_output(self, accumulator: Moments) -> Moments:
        return accumulator


def measure(
    sources: Mapping[str, Path], cache: Path, options: Sequence[str], *, inside: Path | None = None
) -> dict[str, Moments]:
    """Measures photographs and keeps the results where `feature_cache.extract_all` finds them.

    Args:
      sources: files by name, `train/...`, `additional/...` or `test/...`; all machines see them under these paths, and
        the folder of the cache too.
      cache: SQLite file; made if missing.
      options: of Beam, such as `--runner=DirectRunner`.
      inside: folder that no file may lie outside of, by a link.

    Returns:
      Sums of the histograms of each part.
    """
    shared = cache.with_suffix(".beam")
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir(parents=True)
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        results = (
            pipeline
            | "names" >> beam.Create(list(sources.items()))
            | "to all machines" >> beam.Reshuffle()
            | "measure" >> beam.Map(partial(read_and_extract, known=frozenset(), inside=inside))
            | "opened" >> beam.Filter(lambda result: result[1] is not None)
        )
        (
            results
            | "rows" >> beam.Map(_row)
            | "write" >> beam.io.WriteToParquet(str(shared / "measured"), _SCHEMA, file_name_suffix=".parquet")
        )
        (
            results
            | "readable" >> beam.Filter(lambda result: not result[2].reason)
            | "by part" >> beam.Map(lambda result: (result[0].split("/")[0], result[2].histograms))
            | "sum" >> beam.CombinePerKey(SumMoments())
            | "as text" >> beam.MapTuple(_to_json)
            | "write sums" >> beam.io.WriteToText(str(shared / "sums"), file_name_suffix=".jsonl")
        )
    feature_cache.keep(_rows(shared), cache)
    moments = dict(_from_json(line) for path in shared.glob("sums*.jsonl") for line in path.open())
    shutil.rmtree(shared)
    return moments


def _row(result: Result) -> dict[str, Any]:
    _, digest, m = result
    return {"digest": digest, **{name: getattr(m, name) for name in _SCHEMA.names[1:]}}


def _rows(folder: Path) -> Iterator[tuple[str, Measured]]:
    for path in sorted(folder.glob("measured*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(64):
            for row in batch.to_pylist():
                digest = row.pop("digest")
                yield digest, Measured(**row | {"original_size": tuple(row["original_size"])})


def _to_json(part: str, moments: Moments) -> str:
    sums = {name: np.asarray(value).tolist() for name, value in vars(moments).items()}
    return json.dumps({"part": part, **sums})


def _from_json(line: str) -> tuple[str, Moments]:
    sums = json.loads(line)
    arrays = {name: np.array(sums[name]) for name in ("total", "products", "cubes")}
    return sums["part"], Moments(count=sums["count"], fourths=sums["fourths"], **arrays)
