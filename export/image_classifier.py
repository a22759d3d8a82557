"""image_classifier: EfficientNet-Lite0 with its published ImageNet weights; photograph in, probabilities out."""

from __future__ import annotations

from networks.efficientnet import EfficientNetLite0

from modelport.commands.build import main
from modelport.convert.source_files import load_weights
from modelport.recipes import images, published
from modelport.recipes.packages import fetch
from modelport.recipes.recipe import Evaluation, Options, Recipe, Trained
from modelport.repository.card import Card
from modelport.repository.gate import Gate

SIDE = 224


GATE = Gate(metric="top5", min=0.9, max_drop=0.1)  # of fourteen pictures, one may be lost


def scored(photographs: images.Photographs) -> Evaluation:
    inputs = {"image": photographs.images}
    return Evaluation(inputs=inputs, truth=photographs.right, metrics=("top5",), gates=(GATE,))


def evaluation_data(options: Options) -> dict[str, Evaluation]:
    return {"image_classifier": scored(images.photographs(SIDE, options.report))}


def build(options: Options) -> list[Trained]:
    package = published.EFFICIENTNET_LITE0
    (file,) = fetch(package, options.report).glob("*.pth")
    model = EfficientNetLite0()
    load_weights(model, file)
    photographs = images.photographs(SIDE, options.report)
    card = Card(
        title="A thousand classes of photographs",
        description="Takes a photograph as it comes out of a file: UINT8, 224x224, red green blue. Gives a "
        "probability for each class of ImageNet. The scaling of the pixels is inside the model.",
        source=f"EfficientNet-Lite0, weights from the package {package}, converted from TensorFlow's release",
        data=f"trained by its authors on ImageNet-1k; scored here on {photographs.origin}",
        licence="weights Apache-2.0, photographs as named",
        notes="Fourteen pictures show that the model works, not how well: the authors name 75.1 % on ImageNet.",
    )
    return [
        Trained(
            name="image_classifier",
            model=model,
            output_names=("probabilities",),
            labels=photographs.labels,
            evaluation=scored(photographs),
            card=card,
        )
    ]


RECIPE = Recipe(models=("image_classifier",), build=build, evaluation_data=evaluation_data)

if __name__ == "__main__":
    main(RECIPE, __file__)
