#!/usr/bin/env bash
# The whole job on synthetic photographs: environment, data, a localiser and a classifier on its crops, evaluation, prediction, figures.
# Run it again: what is done is not done twice. Progress goes to standard error; the last line of standard output is the metrics of the best checkpoint.
source "$(dirname "$0")/environment.sh"

RUN=runs/quickstart
LOCALISER=runs/quickstart_localiser
DATA=--config.dataset.data_dir=runs/data

echo "== preparing cervix/synthetic" >&2
python -m cervix_jax.prepare --config=configs/quickstart.py $DATA
echo "== training configs/quickstart_localiser.py, which finds the cervix; its worst boxes in $LOCALISER/figures" >&2
python -m cervix_jax.train --config=configs/quickstart_localiser.py $DATA --workdir=$LOCALISER
python -m cervix_jax.evaluate --workdir=$LOCALISER --figures=$LOCALISER/figures
echo "== training configs/quickstart.py on photographs cropped to the cervix" >&2
python -m cervix_jax.train --config=configs/quickstart.py $DATA --config.dataset.crop=$LOCALISER --workdir=$RUN
echo "== calibrating, so that it can say that it does not know" >&2
python -m cervix_jax.calibrate --workdir=$RUN
echo "== predicting the photographs in $RUN/photographs" >&2
[ -d $RUN/photographs ] || python - $RUN/photographs <<'PYTHON'
import pathlib, sys
from cervix_jax.images import synthetic
synthetic.write_folder(pathlib.Path(sys.argv[1]), seed=1, counts={"test": 60})
PYTHON
python -m cervix_jax.predict --workdir=$RUN --images=$RUN/photographs/test --output=$RUN/predictions.csv
echo "== evaluating the best checkpoint; figures in $RUN/figures" >&2
python -m cervix_jax.evaluate --workdir=$RUN --figures=$RUN/figures
echo "== done; a page that says what may be said of a photograph: ./launch/serve.sh $RUN" >&2
