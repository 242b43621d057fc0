"""Pretrained weights by path and by name, and statistics of the real ones on photographs."""

import dataclasses
import functools
import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from random_networks import PHOTOGRAPHS, REAL, random_tree, shapes, template, write_keras
from sklearn.datasets import load_sample_images

from cervix_jax import config as options
from cervix_jax.config import ConfigError
from cervix_jax.errors import UserError
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone, preprocess
from cervix_jax.models.backbones.resnet import RESNET50, RESNET50_V1_5
from cervix_jax.models.backbones.spec import CAFFE, TF, TORCH, Architecture, Preprocessing
from cervix_jax.models.weights.pretrained import load_pretrained
from cervix_jax.models.weights.strict_loading import WeightsError, WeightsNotFoundError
from cervix_jax.training.initialisation import pretrained_backbone

LAST = "conv3_block4_out"  # of which the real files hold all
FLAVOURS = ["resnet50", "resnet50_v1_5"]
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("protocol", [2, 3, 4, 5, None])
def test_pickles_and_zip_archives_are_named_and_never_opened(tmp_path, backbone, protocol):
    touched = tmp_path / "touched"
    content = pickle.dumps({"conv1.weight": Trap(touched)}, protocol=protocol or 2)
    path = tmp_path / "weights.pth"
    path.write_bytes(content if protocol else zipped(content))
    kind = "a Python pickle" if protocol else "a zip archive"
    with pytest.raises(WeightsError, match=rf"weights\.pth is {kind}.*; {backbone} needs .* in (HDF5|safetensors)"):
        load_pretrained(path, backbone, template(backbone, 3))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("backbone", "content", "message"),
    [
        ("resnet50", SAFETENSORS, r"is a safetensors file; resnet50 needs Keras' weights in HDF5"),
        ("inception_v3", SAFETENSORS, r"is a safetensors file; inception_v3 needs Keras' weights in HDF5"),
        ("resnet50_v1_5", HDF5, r"is an HDF5 file; resnet50_v1_5 needs torchvision's weights in safetensors"),
        ("resnet50", HDF5, "cannot be read as an HDF5 file"),
        ("resnet50", b"no weights", "cannot be read as an HDF5 file"),
        ("resnet50", b"", "cannot be read as an HDF5 file"),
        ("resnet50_v1_5", SAFETENSORS, r"does not fit the network"),
        ("resnet50_v1_5", b"", "cannot be read as a safetensors file"),
        ("resnet50_v1_5", b"no weights", "declares a header of"),
        ("resnet50_v1_5", pickle.dumps([], protocol=0), "refused|cannot be read"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, backbone, content, message):
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        load_pretrained(path, backbone, template(backbone, 3))
    assert str(path) in str(caught.value)


def test_a_safetensors_file_whose_header_begins_like_a_pickle_is_none(tmp_path):
    path = tmp_path / "weights"
    header = b"{}".ljust(0x280)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert path.read_bytes().startswith(b"\x80\x02")
    with pytest.raises(WeightsError, match=r"bn1\.bias: missing"):
        load_pretrained(path, "resnet50_v1_5", template("resnet50_v1_5", 3))


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_missing_file_is_said_to_be_missing(tmp_path, backbone):
    for path in (tmp_path / "absent.h5", str(tmp_path)):
        with pytest.raises(FileNotFoundError, match=r"no weights file at "):
            load_pretrained(path, backbone, template(backbone, 3))
    with pytest.raises(UserError):  # so that a program prints the message without a traceback
        load_pretrained("absent.h5", backbone, template(backbone, 3))
    assert issubclass(WeightsNotFoundError, UserError)


def backbone_options(name: str, **values: Any) -> Any:
    return options.unflatten({f"model.backbone.{key}": value for key, value in {"name": name, **values}.items()})


def start(backbone: str, cut: str | int, **values: Any) -> Any:
    """The backbone's variables as a run starts with them."""
    variables = {name: {"backbone": layers} for name, layers in template(backbone, cut).items()}
    return pretrained_backbone(variables, backbone_options(backbone, cut=cut, **values).model.backbone)


def test_imagenet_is_the_published_file(tmp_path, monkeypatch):
    tree = random_tree(template("resnet50", 3))
    path = write_keras(tmp_path / "published.h5", tree)  # put into the cache by hand
    weights = dataclasses.replace(
        RESNET50.weights, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), file_name=path.name
    )
    monkeypatch.setitem(BACKBONES, "resnet50", dataclasses.replace(RESNET50, weights=weights))
    monkeypatch.setenv("CERVIX_JAX_CACHE", str(tmp_path))
    for source in ("imagenet", str(path)):
        jax.tree.map(np.testing.assert_array_equal, start("resnet50", 3, weights=source), tree)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_run_without_weights_is_told_its_ways_out(backbone):
    with pytest.raises(ConfigError) as caught:
        start(backbone, 3)
    for way in ("weights=imagenet", BACKBONES[backbone].weights.url, "backbone.name=none", "backbone.allow_random"):
        assert way in str(caught.value)
    assert start(backbone, 3, allow_random=True) is None


needs_weights = pytest.mark.skipif(
    not all(path.exists() for path in REAL.values()), reason="the real weights are not here: set CERVIX_JAX_SHARED"
)
needs_photographs = pytest.mark.skipif(
    not PHOTOGRAPHS.exists(), reason="the real photographs are not here: set CERVIX_JAX_SHARED"
)


@needs_weights
@pytest.mark.parametrize(
    ("backbone", "count", "missing"),
    [
        ("resnet50", 6, ["conv4_block1_1_conv/kernel", "conv4_block1_1_conv/bias", "conv4_block1_1_bn/moving_mean"]),
        ("resnet50_v1_5", 5, ["layer3.0.conv1.weight", "layer3.0.bn1.weight", "layer3.0.bn1.running_mean"]),
    ],
)
def test_the_real_files_load_and_stop_where_they_end(backbone, count, missing):
    loaded = load_pretrained(REAL[backbone], backbone, template(backbone, LAST))
    assert jax.tree.map(np.shape, loaded) == jax.tree.map(np.shape, template(backbone, LAST))
    with pytest.raises(WeightsError) as caught:
        load_pretrained(REAL[backbone], backbone, template(backbone, "conv4_block1_1_bn"))
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == count
    for name in missing:
        assert any(line.strip().startswith(f"{name}: missing") for line in lines)


@needs_weights
def test_a_real_file_of_one_flavour_is_refused_for_the_other():
    with pytest.raises(WeightsError, match="is an HDF5 file; resnet50_v1_5 needs"):
        load_pretrained(REAL["resnet50"], "resnet50_v1_5", template("resnet50_v1_5", 3))
    with pytest.raises(WeightsError, match="is a safetensors file; resnet50 needs"):
        load_pretrained(REAL["resnet50_v1_5"], "resnet50", template("resnet50", 3))


@dataclasses.dataclass
class Statistics:
    """Mean and variance of the channels of a batch norm's input, [c] each: measured, and stored with the weights."""

    mean: np.ndarray
    var: np.ndarray
    stored_mean: np.ndarray
    stored_var: np.ndarray

    @property
    def correlation(self) -> float:
        """Of the measured and the stored means, over channels."""
        return float(np.corrcoef(self.mean, self.stored_mean)[0, 1])

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of a channel's stored Gaussian from the measured one; median over channels."""
        ratio = (self.var + 1e-5) / (self.stored_var + 1e-5)  # some channels are dead
        shift = (self.mean - self.stored_mean) ** 2 / (self.stored_var + 1e-5)
        return float(np.median(0.5 * (ratio - np.log(ratio) - 1 + shift)))


@functools.cache
def photographs(name: str) -> jax.Array:
    """RGB [n 240 320 3] or [n 320 240 3], 0 to 255."""
    if name == "landscapes":  # two ordinary photographs, a temple and a flower, and their mirror images
        pixels = [np.asarray(Image.fromarray(image).resize((320, 240))) for image in load_sample_images().images]
        return jnp.asarray(pixels + [image[:, ::-1] for image in pixels], jnp.float32)
    if name == "cervices, BGR":
        return photographs("cervices")[..., ::-1]
    paths = sorted(PHOTOGRAPHS.glob("Type_[123]/*.jpg"))[::180][:8]
    return jnp.asarray([np.asarray(Image.open(path).convert("RGB").resize((320, 240))) for path in paths], jnp.float32)


@functools.cache
def forward_moments(architecture: Architecture, cut: str) -> Callable[..., Any]:
    """The compiled function from variables and images to mean and variance of each batch norm's input."""

    @jax.jit
    def moments(variables: Any, x: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        _, points = Backbone(architecture, cut).apply(variables, x)
        inputs = {name: points[name.replace("_bn", "_conv")] for name in variables["batch_stats"]}
        return {name: (v.mean((0, 1, 2)), v.var((0, 1, 2))) for name, v in inputs.items()}

    return moments


@functools.cache
def statistics(
    backbone: str,
    subject: str,
    preprocessing: Preprocessing | None = None,
    cut: str = LAST,
    architecture: Architecture | None = None,
) -> dict[str, Statistics]:
    """By batch norm; `architecture` and `preprocessing` replace the right ones."""
    architecture = architecture or BACKBONES[backbone]
    preprocessing = preprocessing or BACKBONES[backbone].weights.preprocessing
    variables = load_pretrained(REAL[backbone], backbone, shapes(architecture, cut))
    moments = forward_moments(architecture, cut)(variables, preprocess(photographs(subject), preprocessing))
    return {
        name: Statistics(*map(np.asarray, moments[name]), stored["mean"], stored["var"])
        for name, stored in variables["batch_stats"].items()
    }


def mean_divergence(by_layer: dict[str, Statistics]) -> float:
    return float(np.mean([s.divergence for s in by_layer.values()]))


# In each network the stored means of one batch norm differ little between channels, and follow the subject.
LEAST = {"resnet50": ("conv3_block3_1_bn", 0.75), "resnet50_v1_5": ("conv3_block2_1_bn", 0.65)}


@needs_weights
@pytest.mark.parametrize("backbone", FLAVOURS)
def test_ordinary_photographs_have_the_statistics_the_weights_were_trained_on(backbone):
    """Each batch norm's stored mean and variance are those of its input on ImageNet.

    Those of `conv1_conv` are not compared: its input is centred, so its channel means are the photographs' colour.
    """
    by_layer = dict(statistics(backbone, "landscapes"))
    assert len(by_layer) == 1 + 10 + 13
    assert max(s.divergence for s in by_layer.values()) < 0.1
    assert mean_divergence(by_layer) < 0.02
    outlier, least = LEAST[backbone]
    del by_layer["conv1_bn"]
    assert by_layer.pop(outlier).correlation > least
    assert {name: s.correlation for name, s in by_layer.items() if s.correlation < 0.93} == {}


@needs_weights
@needs_photographs
@pytest.mark.parametrize("backbone", FLAVOURS)
def test_photographs_of_cervices_come_near_and_further_if_prepared_wrongly(backbone):
    """They are all of one colour and without edges, so they come near those of ImageNet and no more."""
    right = statistics(backbone, "cervices")
    outlier, _ = LEAST[backbone]
    correlations = {name: s.correlation for name, s in right.items() if name not in ("conv1_bn", outlier)}
    assert min(correlations.values()) > 0.78
    assert np.median(list(correlations.values())) > 0.93
    assert mean_divergence(right) < 0.15

    identity = Preprocessing("identity", "RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    for other in {CAFFE, TORCH, TF, identity} - {BACKBONES[backbone].weights.preprocessing}:
        wrong = statistics(backbone, "cervices", other, "conv1_bn")["conv1_bn"]
        assert 2 * right["conv1_bn"].divergence < wrong.divergence, other
    swapped = statistics(backbone, "cervices, BGR")
    assert 1.03 * mean_divergence(right) < mean_divergence(swapped)
    if backbone == "resnet50":  # torchvision's first layer hardly minds
        assert 1.1 * right["conv1_bn"].divergence < swapped["conv1_bn"].divergence


@needs_weights
@needs_photographs
@pytest.mark.parametrize("backbone", FLAVOURS)
def test_the_stride_of_the_other_flavour_would_show(backbone):
    other = {"resnet50": RESNET50_V1_5, "resnet50_v1_5": RESNET50}[backbone]
    mistaken = dataclasses.replace(BACKBONES[backbone], layers=other.layers)
    for subject, times in (("cervices", 1.5), ("landscapes", 3)):
        right, wrong = statistics(backbone, subject), statistics(backbone, subject, architecture=mistaken)
        for name in ("conv3_block4_1_bn", "conv3_block4_2_bn", "conv3_block4_3_bn"):
            assert times * right[name].divergence < wrong[name].divergence, name
        assert 1.1 * right["conv3_block1_2_bn"].divergence < wrong["conv3_block1_2_bn"].divergence
