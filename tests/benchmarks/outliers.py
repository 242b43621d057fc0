"""How well the retake gate tells unfit pictures from held-out photographs, without and with the network's familiarity.

python -m tests.benchmarks.outliers RUN ADDITIONAL HELD_OUT

RUN is a work directory after `calibrate`; ADDITIONAL a folder of pictures whose names say what they are: `junk_*` (no
cervix), `blur*` (blurred copies), `atlas_*` (another camera); HELD_OUT a folder of photographs of the run's own camera.
Synthetic photographs are added. Prints the fraction that is flagged and the AUROC of the lowest rank (without criteria
of a box) against HELD_OUT, before and after familiarity joins it.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from cervix_jax.datasets.quality import RETAKE
from cervix_jax.images import synthetic
from cervix_jax.images.files import UnreadableError, find_photographs
from cervix_jax.inference.clinical_metrics import auroc
from cervix_jax.inference.predictor import Predictor


def main(run: Path, additional: Path, held_out: Path) -> None:
    predictor, files = Predictor.restore([run]), find_photographs(additional)
    kinds = {"held out": read(predictor, find_photographs(held_out)[:200])}
    for kind in ("junk", "blur", "atlas"):
        kinds[kind] = read(predictor, [path for path in files if path.name.startswith(kind)])
    kinds["synthetic"] = read(predictor, [jpeg(i) for i in range(60)])
    before = {kind: lowest(predictor, photographs) for kind, photographs in kinds.items()}
    after = {
        kind: np.minimum(before[kind], predictor.familiarity(predictor.embeddings(photographs)))
        for kind, photographs in kinds.items()
    }
    for name, ranks in (("before", before), ("after", after)):
        for kind, values in ranks.items():
            both = np.concatenate([values, ranks["held out"]])
            flagged, area = np.mean(values < RETAKE), auroc(-both, np.arange(len(both)) < len(values))
            print(f"{name}, {kind}: {len(values)}, flagged {flagged:.3f}, AUROC {area:.3f}")


def read(predictor, sources):
    photographs = []
    for source in sources:
        try:
            photographs.append(predictor.read(source, with_features=True))
        except UnreadableError:
            continue
    return photographs


def jpeg(index):
    out = io.BytesIO()
    Image.fromarray(synthetic.draw(0, "train", index).image).save(out, "JPEG")
    return out.getvalue()


def lowest(predictor, photographs):
    return np.array([predictor.quality_reference.assess(photograph.features).rank for photograph in photographs])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
