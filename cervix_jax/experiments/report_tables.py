"""The report's tables as data: which variants each compares, and the numbers that the report published.

Published numbers are for the report's own split of Kaggle's originals: 296 validation images, a fifth of the initial
ones (each accuracy but one is a multiple of 1/296). None where the report gives no number.
"""

import dataclasses

from cervix_jax.experiments.variants import KEEP_FRACTIONS, SHARPNESSES, cleaning_variant

PUBLISHED_IMAGES = 296


@dataclasses.dataclass(frozen=True)
class Published:
    """What the report says of a variant: loss in nats, accuracies as fractions.

    `on_test_images`: of Kaggle's test images, and so not to be compared with the other rows.
    """

    loss: float | None = None
    accuracy: float | None = None
    train_accuracy: float | None = None
    note: str = ""
    on_test_images: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      title: the report's name for it.
      systems: a name in `VARIANTS`; or several, for an ensemble.
      published: the report's numbers.
      rule: of the ensemble: 'report', 'mean' or 'geometric' (section 12), or 'one_vs_rest' (section 15);
        'one_vs_rest_calibrated': its members at temperatures that fit the other folds.
    """

    title: str
    systems: tuple[str, ...]
    published: Published = Published()
    rule: str | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A conclusion of the report: one row's loss is lower than another's.

    Attributes:
      text: the conclusion.
      better: title of the row that is said to be better.
      than: title of the other row.
      margin: the rows are said to be alike instead: to differ by less than this, in nats.
    """

    text: str
    better: str
    than: str
    margin: float | None = None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table of the report.

    Attributes:
      title: what is compared.
      section: of the report.
      rows: in the report's order.
      base: title of the row that the others are compared with.
      claims: what the report concludes from the table.
      note: what the table cannot show.
    """

    title: str
    section: str
    rows: tuple[Row, ...]
    base: str
    claims: tuple[Claim, ...] = ()
    note: str = ""

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the variants to be trained, each once."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.systems))


def _row(title: str, system: str, loss: float | None = None, percent: float | None = None, note: str = "") -> Row:
    return Row(title, (system,), Published(loss, None if percent is None else round(percent / 100, 4), note=note))


SPECIALISTS = ("specialist_1", "specialist_2", "specialist_3")
ONE_VS_REST = ("one_vs_rest_1", "one_vs_rest_2", "one_vs_rest_3")
WEIGHTED = ("weights_5.88_1.89_3.33", "weights_4.88_1.89_3.33", "weights_4.88_1.89_2.33", "weights_2.5_1.0_1.5")
ALIKE = 0.05  # nats; the report calls losses that differ by 0.033 'very similar' (section 11.2)

EXPERIMENTS: dict[str, Experiment] = {
    "baselines": Experiment(
        "Baselines",
        "4.2, 6",
        (
            _row("always equal", "uniform", 1.099),
            _row("always the class priors", "shares", 0.999),
            _row("vanilla CNN", "vanilla_cnn", 0.9723, 51.52),
            _row("naive transfer, ResNet-50", "naive_resnet50", 1.0963, 59.12),
            _row("naive transfer, ResNet-50 up to conv4", "naive_resnet50_conv4"),
            _row("naive transfer, ResNet-50 up to conv3", "naive_resnet50_conv3"),
            _row("naive transfer, Inception-v3", "naive_inception_v3", 0.8953, 60.47),
            _row("naive transfer, Inception-v3 up to mixed8", "naive_inception_v3_mixed8"),
            Row("overfitted ResNet", ("overfitted",), Published(None, 0.4493, 0.95)),
            _row("logistic regression on conv1 features", "logistic_conv1"),
            _row("logistic regression on conv3 features", "logistic_conv3"),
            _row("the report's network", "initial", 0.8168, 63.18, "section 8"),
        ),
        base="the report's network",
        claims=(
            Claim("a CNN from scratch beats the class priors", "vanilla CNN", "always the class priors"),
            Claim("its own head beats a CNN from scratch", "the report's network", "vanilla CNN"),
            Claim(
                "its own head beats naive transfer from ResNet-50 (here to conv4)",
                "the report's network",
                "naive transfer, ResNet-50 up to conv4",
            ),
            Claim(
                "its own head beats naive transfer from Inception-v3 (here to mixed8)",
                "the report's network",
                "naive transfer, Inception-v3 up to mixed8",
            ),
            Claim(
                "of naive transfers, Inception-v3 (here to mixed8) beats ResNet-50 (to conv4)",
                "naive transfer, Inception-v3 up to mixed8",
                "naive transfer, ResNet-50 up to conv4",
            ),
        ),
        note="The report's networks are whole, to conv5 and mixed10; the claims are decided by the deepest here.",
    ),
    "cropping": Experiment(
        "Fraction of each side kept around the centre",
        "8",
        (
            _row("100 %", "initial", 0.8168, 63.18),
            _row("85 %", "crop_85", 0.8114, 64.53),
            _row("70 %", "crop_70", 0.7725, 68.24),
            _row("55 %", "crop_55", 0.8249, 61.15),
            _row("40 %", "crop_40", 0.8567, 60.14),
        ),
        base="100 %",
        claims=(
            Claim("a small crop helps: 70 % beats 100 %", "70 %", "100 %"),
            Claim("a large crop hurts: 100 % beats 40 %", "100 %", "40 %"),
        ),
    ),
    "class_weights": Experiment(
        "Weights of the types in the loss",
        "9",
        (
            _row("none", "initial", 0.8168, 63.18, "section 8"),
            _row("5.88, 1.89, 3.33", "weights_5.88_1.89_3.33", 0.9931, 48.31),
            _row("4.88, 1.89, 3.33", "weights_4.88_1.89_3.33", 0.9696, 54.39),
            _row("4.88, 1.89, 2.33", "weights_4.88_1.89_2.33", 0.9652, 56.08),
            _row("2.5, 1.0, 1.5", "weights_2.5_1.0_1.5", 0.8583, 57.77),
        ),
        base="none",
        claims=(
            Claim("equal weights beat those inverse to the types' shares", "none", "5.88, 1.89, 3.33"),
            Claim("equal weights beat the mildest", "none", "2.5, 1.0, 1.5"),
            Claim("mild weights beat strong ones", "2.5, 1.0, 1.5", "5.88, 1.89, 3.33"),
        ),
    ),
    "cleaning": Experiment(
        "Additional photographs: fraction kept by colour, and multiple of the least sharpness",
        "10, 15",
        (
            _row("none", "initial"),
            _row("all", cleaning_variant(1.0, 0.0)),
            _row("density only", cleaning_variant(0.5, 0.0)),
            _row("sharpness only", cleaning_variant(1.0, 1.0)),
            _row("density and sharpness", cleaning_variant(0.5, 1.0), 0.7157, 69.93, "section 11"),
            *(
                _row(f"closest {fraction:.0%}, sharpness x {sharpness:g}", cleaning_variant(fraction, sharpness))
                for fraction in KEEP_FRACTIONS
                for sharpness in SHARPNESSES
                if (fraction, sharpness) not in ((1.0, 0.0), (0.5, 0.0), (1.0, 1.0), (0.5, 1.0))
            ),
        ),
        base="none",
        claims=(
            Claim("cleaned additional photographs help", "density and sharpness", "none"),
            Claim("cleaning helps: cleaned ones beat all of them", "density and sharpness", "all"),
        ),
        note=(
            "Where the additional photographs are not Kaggle's 6,734, this table speaks of those that were given: of a "
            "few of another camera it shows neither the report's gain nor which tolerance would be best for Kaggle's."
        ),
    ),
    "features": Experiment(
        "Network whose first 3 layers extract features, frozen",
        "11.1",
        (
            _row("none", "no_backbone", 0.8016, 63.51),
            _row("Inception-v3", "inception_v3", 0.7592, 68.24),
            _row("ResNet-50", "report", 0.7157, 69.93),
        ),
        base="ResNet-50",
        claims=(
            Claim("features of ResNet-50 beat none", "ResNet-50", "none"),
            Claim("features of Inception-v3 beat none", "Inception-v3", "none"),
            Claim("features of ResNet-50 beat those of Inception-v3", "ResNet-50", "Inception-v3"),
        ),
    ),
    "depth": Experiment(
        "Layers of ResNet-50 before the head",
        "11.2",
        (
            _row("3, trained", "trained_3", 0.7734, 62.16),
            _row("6, trained", "trained_6", 0.7629, 67.23),
            _row("12, trained", "trained_12", 0.7565, 64.86),
            _row("20, trained", "trained_20", 0.7894, 63.18),
            _row("3, frozen", "report", 0.7157, 69.93),
            _row("6, frozen", "frozen_6"),
            _row("12, frozen", "frozen_12"),
            _row("20, frozen", "frozen_20"),
        ),
        base="3, trained",
        claims=tuple(
            Claim(
                f"losses of 3 and {n} trained layers are alike (within {ALIKE})", f"{n}, trained", "3, trained", ALIKE
            )
            for n in (6, 12, 20)
        ),
    ),
    "finetune": Experiment(
        "Training the first 3 layers of ResNet-50",
        "11.3",
        (_row("yes", "trained_3", 0.7734, 62.16), _row("no", "report", 0.7157, 69.93)),
        base="no",
        claims=(Claim("frozen layers beat trained ones", "no", "yes"),),
    ),
    "regularisation": Experiment(
        "Regularisation, each kind left out in turn",
        "5.2, 7",
        (
            _row("all", "initial"),
            _row("without dropout", "without_dropout"),
            _row("without batch norm", "without_batch_norm"),
            _row("without L2", "without_l2"),
            _row("without augmentation", "without_augmentation"),
        ),
        base="all",
        claims=tuple(
            Claim(f"{kind} helps", "all", f"without {kind}") for kind in ("dropout", "batch norm", "L2", "augmentation")
        ),
    ),
    "ensemble": Experiment(
        "Three networks, each with one type weighted higher",
        "12",
        (
            _row("single network", "report", 0.7157, 69.93),
            *(_row(f"type {i} weighted higher", f"specialist_{i}") for i in (1, 2, 3)),
            Row(
                "ensemble, weighted by 0.95 - loss",
                SPECIALISTS,
                Published(
                    0.7452, note="on Kaggle's test images, where the single network's was higher", on_test_images=True
                ),
                "report",
            ),
            Row("ensemble, plain mean", SPECIALISTS, rule="mean"),
            Row("ensemble, geometric mean", SPECIALISTS, rule="geometric"),
            Row("ensemble of section 9's weights, plain mean", WEIGHTED, rule="mean"),
        ),
        base="single network",
        claims=(Claim("the ensemble beats the single network", "ensemble, weighted by 0.95 - loss", "single network"),),
        note=(
            "The report does not give its three weightings; here one type's weight is 2 and the others' are 1. As in "
            "the report, the losses that weight the first ensemble are of the photographs that judge it."
        ),
    ),
    "one_vs_rest": Experiment(
        "Three networks, each telling one type from the rest",
        "15",
        (
            _row("one network", "report", 0.7157, 69.93),
            *(_row(f"type {i} or not", f"one_vs_rest_{i}") for i in (1, 2, 3)),
            Row("the three combined", ONE_VS_REST, rule="one_vs_rest"),
            Row("the three combined, each calibrated", ONE_VS_REST, rule="one_vs_rest_calibrated"),
        ),
        base="one network",
        note="The report only proposes this.",
    ),
}
