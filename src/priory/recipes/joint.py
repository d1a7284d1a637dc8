"""Pairs that are compared on several sites at once: bidirectional, cyclic and stacked nets."""

from priory.models import VAE, CycleGAN, StackedGAN
from priory.recipes.recipe import Recipe

_TRAINING = {"steps": 2000, "lr": 5e-4, "optim": "adam:betas=0.5,0.999"}
_BOTH_WAYS = {"encoder": "mlp:128", "decoder": "mlp:128:output=sigmoid", "likelihood": "delta"}

ROWS = (
    Recipe(
        "bigan",
        "Donahue et al., 2017, Adversarial feature learning",
        VAE,
        "adversarial:x,z:critic=(mlp:128,128:leaky-relu-0.2):noise=0.3",
        {**_BOTH_WAYS, "deterministic": True},
        _TRAINING,
        grey=True,
    ),
    Recipe(
        "ali",
        "Dumoulin et al., 2017, Adversarially learned inference",
        VAE,
        "adversarial:x,z:critic=(mlp:128,128:leaky-relu-0.2):noise=0.3",
        _BOTH_WAYS,
        _TRAINING,
        grey=True,
    ),
    Recipe(
        "cyclegan",
        "Zhu et al., 2017, Unpaired image-to-image translation",
        CycleGAN,
        "0.03*reconstruction:cost=absolute + 0.03*sleep:b:cost=absolute"
        " + adversarial:x:game=least-squares:critic=(mlp:64:leaky-relu-0.2)"
        " + adversarial:b:game=least-squares:critic=(mlp:64:leaky-relu-0.2)",
        {"encoder": "resnet:16:1:1", "decoder": "resnet:16:1:1"},
        {**_TRAINING, "steps": 1000, "lr": 2e-3, "batch_size": 32},
        data="digits:edges",
    ),
    Recipe(
        "stacked-gan",
        "Huang et al., 2017, Stacked generative adversarial networks",
        StackedGAN,
        "adversarial:x:critic=(mlp:128,128:leaky-relu-0.2):noise=0.3"
        " + adversarial:h:critic=(mlp:128:leaky-relu-0.2):noise=0.3"
        " + classification:label + 0.1*sleep:f:cost=squared + sleep:y + 0.1*sleep:z1,z0",
        {
            "encoder": "mlp:128",
            "upper": "mlp:128",
            "lower": "mlp:128:output=sigmoid",
            "upper_inverse": "mlp:128",
            "lower_inverse": "mlp:128",
        },
        _TRAINING,
        grey=True,
    ),
)
