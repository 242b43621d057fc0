"""How well the retake gate tells unfit pictures from held-out photographs, without and with the network's familiarity.

python -m tests.benchmarks.outliers RUN ADDITIONAL [--data_dir DIR] [--manual_dir DIR]

RUN is a work directory after `calibrate`; ADDITIONAL a folder of pictures whose names say what they are: `junk_*` (no
cervix), `blur*` (blurred copies), `atlas_*` (another camera). Drawn photographs are added. Prints the fraction flagged
and the AUROC of the lowest rank against held-out photographs, of which half are the reference of familiarity.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.datasets.dataset import load_dataset
from cervix_jax.datasets.quality import RETAKE
from cervix_jax.images import synthetic
from cervix_jax.images.files import UnreadableError, find_photographs
from cervix_jax.inference.clinical_metrics import auroc
from cervix_jax.inference.labelled import split_photographs
from cervix_jax.inference.outliers import EmbeddingReference
from cervix_jax.inference.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("additional", type=Path)
    parser.add_argument("--data_dir")
    parser.add_argument("--manual_dir")
    arguments = parser.parse_args()
    predictor = Predictor.restore([arguments.run])
    validation = split_photographs(
        predictor, lambda config: load_dataset(config, arguments.manual_dir, arguments.data_dir), "validation"
    )
    stored = [photograph.jpeg for photograph in validation.photographs]
    files = find_photographs(arguments.additional)
    kinds = {"held out": read(predictor, stored[1::2])}
    for kind in ("junk", "blur", "atlas"):
        kinds[kind] = read(predictor, [path for path in files if path.name.startswith(kind)])
    kinds["drawn"] = read(predictor, [jpeg(i) for i in range(60)])
    (embeddings,) = predictor.embeddings(read(predictor, stored[::2]))
    known = EmbeddingReference(embeddings.astype(float))
    without = {kind: lowest(predictor, photographs) for kind, photographs in kinds.items()}
    familiar = {kind: known.ranks(predictor.embeddings(p)[0].astype(float)) for kind, p in kinds.items()}
    together = {kind: np.minimum(without[kind], familiar[kind]) for kind in kinds}
    for name, ranks in (("without", without), ("familiarity", familiar), ("together", together)):
        for kind, values in ranks.items():
            both = np.concatenate([values, ranks["held out"]])
            unfit = np.arange(len(both)) < len(values)
            flagged, area = np.mean(values < RETAKE), auroc(-both, unfit)
            print(f"{name}, {kind}: {len(values)}, flagged {flagged:.2f}, AUROC {area:.3f}")


def read(predictor, sources):
    photographs = []
    for source in sources:
        try:
            photographs.append(predictor.read(source, with_features=True))
        except UnreadableError:
            continue
    return photographs


def jpeg(index: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(synthetic.draw(0, "train", index).image).save(out, "JPEG")
    return out.getvalue()


def lowest(predictor, photographs):
    assessed = [predictor.quality_reference.assess(each.features, each.located[0]) for each in photographs]
    return np.array([each.rank for each in assessed])


if __name__ == "__main__":
    main()
