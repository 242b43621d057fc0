"""The published ImageNet weights of each backbone: where they are, and getting them once.

A file is known by its SHA-256, so it does not matter who serves it or who put it in the cache.
"""

import dataclasses
import logging
import sys
from pathlib import Path

import pooch

from cervix_jax.cache import cache_dir
from cervix_jax.models.weights.weights_file import WeightsError

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights.

    Attributes:
        url: where it is downloaded from.
        sha256: of its contents, 64 hexadecimal digits.
        file_name: in the cache.
        bytes: its size.
    """

    url: str
    sha256: str
    file_name: str
    bytes: int


PUBLISHED: dict[str, Published] = {
    "resnet50": Published(
        f"{_KERAS}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "66c8b43daff3fcc15bc4f30e3d2a167e21a14d9c9598a5394e5516471f4af504",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        94_765_736,
    ),
    # torchvision's IMAGENET1K_V1, as safetensors
    "resnet50_v1_5": Published(
        "https://huggingface.co/timm/resnet50.tv_in1k/resolve/78f3ecfdb38e06d9b8397f662e7ab8fee96026fa/model.safetensors",
        "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        "resnet50_tv_in1k.safetensors",
        102_469_840,
    ),
    "inception_v3": Published(
        f"{_KERAS}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "9617109a16463f250180008f9818336b767bdf5164315e8cd5761a8c34caa62a",
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        87_910_968,
    ),
}


def fetch(backbone: str) -> Path:
    """The published weights of a backbone, downloaded unless they are in the cache.

    Args:
        backbone: a name in `PUBLISHED`.

    Returns:
        Their path; the contents have the published SHA-256.

    Raises:
        WeightsError: they cannot be downloaded, or what is in the cache or was downloaded is something else; says how
            to go on.
    """
    file = PUBLISHED[backbone]
    path = cache_dir() / file.file_name
    by_hand = (
        f"The published weights of {backbone} are at {file.url} ({file.bytes / 1e6:.0f} MB, SHA-256 {file.sha256}): "
        f"put the file at {path} by hand, or give it, or weights of your own, with "
        "--config.model.backbone.weights=PATH."
    )
    try:
        if path.exists():
            digest = pooch.file_hash(str(path))
            if digest != file.sha256:
                raise WeightsError(f"{path} has SHA-256 {digest}, not {file.sha256}: remove it. {by_hand}")
            return path
        pooch.get_logger().setLevel(logging.WARNING)  # it tells every download, in its own words
        # To a temporary file beside it, checked, then moved: what is in the cache is whole.
        pooch.retrieve(file.url, f"sha256:{file.sha256}", file.file_name, path.parent, progressbar=sys.stderr.isatty())
    except WeightsError:
        raise
    except (OSError, ValueError) as error:  # requests' exceptions are OSErrors; a wrong digest is a ValueError
        raise WeightsError(f"{file.url} could not be fetched: {error}. {by_hand}") from error
    return path
