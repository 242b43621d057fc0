"""Tables of what the models cost, in Markdown: the cuts of the backbones, and the network of every config.

python -m tests.benchmarks.models
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cervix_jax.benchmarks.compute import flops_of
from cervix_jax.config import num_classes
from cervix_jax.models.backbones import BACKBONES
from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.classifier import make_classifier
from configs import naive_inception_v3, naive_resnet50, no_backbone, one_vs_rest, report, vanilla_cnn

IMAGE = jax.ShapeDtypeStruct((1, 320, 240, 3), jnp.float32)
RESNET_CUTS = [3, 6, 12, 20, "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
CUTS = {
    "resnet50": RESNET_CUTS,
    "resnet50_v1_5": RESNET_CUTS,
    "inception_v3": [3, *(f"mixed{i}" for i in range(11))],
}
CONFIGS = (report, no_backbone, naive_resnet50, naive_inception_v3, vanilla_cnn, one_vs_rest)


def main() -> None:
    print("| backbone | cut | number | output | parameters | GFLOPs |\n|---|---|---|---|---|---|")
    for key, architecture in BACKBONES.items():
        for cut in CUTS[key]:
            name = architecture.end_point(cut)
            number = architecture.first_number + architecture.end_points.index(name)
            params, output_shape, gflops = forward_cost(Backbone(architecture, name))
            shape = " x ".join(map(str, output_shape))
            print(f"| {key} | `{name}` | {number} | {shape} | {size(params):,} | {gflops:.2f} |")

    print("\n| config | trained | frozen | GFLOPs |\n|---|---|---|---|")
    for module in CONFIGS:
        config = module.get_config()
        model = make_classifier(config.model.to_dict(), num_classes(config))
        params, _, gflops = forward_cost(model)
        backbone = {name: arrays for name, arrays in params.get("backbone", {}).items() if name in model.trained_layers}
        trained = size((backbone, params["head"]))
        print(f"| `configs/{Path(module.__file__).name}` | {trained:,} | {size(params) - trained:,} | {gflops:.2f} |")


def forward_cost(module: nn.Module) -> tuple[Any, tuple[int, ...], float]:
    """Shapes of the parameters, shape of an image's output, and GFLOPs per image in evaluation.

    XLA counts a multiplication and an addition as two, and does not count those with padding.
    """
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
    forward = jax.jit(lambda variables, image: module.apply(variables, image)[0])
    output = jax.eval_shape(forward, variables, IMAGE)
    return variables["params"], output.shape[1:], flops_of(forward, variables, IMAGE) / 1e9


def size(params: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


if __name__ == "__main__":
    main()
