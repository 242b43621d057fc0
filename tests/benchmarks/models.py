"""Tables of what the models cost, in Markdown: the cuts of the backbones, and the system of every config.

python -m tests.benchmarks.models
"""

import jax
import jax.numpy as jnp

from cervix_jax.models.backbones.backbone import Backbone
from cervix_jax.models.classifier import ARCHITECTURES, make_classifier
from cervix_jax.models.cost import forward_cost
from configs import naive_inception_v3, naive_resnet50, no_backbone, one_vs_rest, report, vanilla_cnn

SIZE = (320, 240)
CUTS = {
    "resnet50": [3, 6, 12, 20, "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"],
    "resnet50_v1_5": [3, 6, 12, 20, "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"],
    "inception_v3": [3, *(f"mixed{i}" for i in range(11))],
}
SYSTEMS = (report, no_backbone, naive_resnet50, naive_inception_v3, vanilla_cnn, one_vs_rest)


def main() -> None:
    print("| backbone | cut | number | output | parameters | GFLOPs |\n|---|---|---|---|---|---|")
    for key, cuts in CUTS.items():
        architecture = ARCHITECTURES[key]
        for cut in cuts:
            name = architecture.end_point(cut)
            number = architecture.first_number + architecture.end_points.index(name)
            cost = forward_cost(Backbone(architecture, name), SIZE)
            shape = " x ".join(map(str, cost.output_shape))
            print(f"| {key} | `{name}` | {number} | {shape} | {cost.parameters:,} | {cost.flops / 1e9:.2f} |")

    print("\n| config | trained | frozen | GFLOPs |\n|---|---|---|---|")
    for module in SYSTEMS:
        config = module.get_config()
        classes = 3 if config.selection.one_vs_rest == "none" else 2
        model = make_classifier(config.model.to_dict(), classes)
        cost = forward_cost(model, SIZE)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SIZE, 3)))["params"]
        trained = {name: part for name, part in shapes.get("backbone", {}).items() if name in model.trained_layers}
        trained_count = sum(leaf.size for leaf in jax.tree.leaves((trained, shapes["head"])))
        frozen = cost.parameters - trained_count
        print(f"| `{module.__name__.replace('.', '/')}.py` | {trained_count:,} | {frozen:,} | {cost.flops / 1e9:.2f} |")


if __name__ == "__main__":
    main()
