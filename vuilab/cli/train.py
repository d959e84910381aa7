"""`vui train`: a model of the zoo, or a network of the study by its run name.

A model may have a recipe, whose values stand in for the defaults of the options (`training/recipes.py`).
"""

import argparse
import ast
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vuilab.augment import Augmentation
from vuilab.cli.flags import argument, fields, from_arguments
from vuilab.data.options import DataOptions
from vuilab.features import FeatureSettings
from vuilab.training.options import OptimizerOptions, TrainingOptions

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
WARP = 0.12  # of the frequency axis, at most; cepstral coefficients have none


@argument(
    "model",
    help="model_0 ... model_6, wavenet_model, final_model, ..., or a run name of the study; residual_birnn and final_model "
    "have recipes of their own, whose values stand in for the defaults below",
)
@argument(
    "--model-options", nargs="+", default=(), metavar="KEY=VALUE", help="of its builder, e.g. units=128 dropout=0.3"
)
@argument(
    "--corpus", type=Path, metavar="DIR", group="files", help="folder with manifests (default: the active corpus)"
)
@argument("--name", group="files", help="of the files (default: the model's name)")
@argument("--results", type=Path, default=Path("results"), metavar="DIR", group="files", help="folder for the files")
@fields(FeatureSettings, "data", skip=("step", "window", "max_freq", "num_mels"))
@fields(DataOptions, "data", skip=("augmentation", "shuffle"))
@argument(
    "--augment", action="store_true", group="data", help="SpecAugment, and a random stretch of the frequency axis"
)
@fields(OptimizerOptions, "training")
@fields(TrainingOptions, "training", skip=("verbose",))
@argument(
    "--precision", choices=PRECISIONS, default="float32", group="machine", help="of the layers; weights stay float32"
)
@argument("--devices", type=int, metavar="N", group="machine", help="so many GPUs share each batch")
def train(arguments: argparse.Namespace) -> None:
    """Train a model of the zoo, or a network of the study."""
    name = arguments.model
    if " " in name:
        build, kind, identity = _study_network(name, arguments.model_options, arguments.name)
        features = from_arguments(FeatureSettings, arguments, kind=kind)
    else:
        build, identity = _zoo_model(arguments.zoo, name, arguments.model_options)
        features = from_arguments(FeatureSettings, arguments)
    if arguments.start_from is not None:
        identity["start_from"] = str(arguments.start_from)
    augmentation = Augmentation(warp=0.0 if features.kind == "mfcc" else WARP) if arguments.augment else None
    data = from_arguments(DataOptions, arguments, augmentation=augmentation)
    optimizer, options = from_arguments(OptimizerOptions, arguments), from_arguments(TrainingOptions, arguments)
    if arguments.corpus is not None:
        from vuilab.corpus.manifest import set_active_corpus

        set_active_corpus(arguments.corpus)
    import keras

    from vuilab.data.generator import BatchGenerator
    from vuilab.training.devices import configure_gpu
    from vuilab.training.fit import fit
    from vuilab.training.recogniser import Recognition

    print(configure_gpu(devices=arguments.devices))
    keras.config.set_dtype_policy(arguments.precision)
    keras.utils.set_random_seed(data.seed)
    model = build(features.num_features)
    history, weights, record = (
        arguments.results / f"{arguments.name or name}{end}" for end in (".pickle", ".h5", ".json")
    )
    generator = BatchGenerator(features, data)
    fit(Recognition(model, generator, history, weights, optimizer=optimizer.build(), notes=identity), options)
    if not options.plan:
        print(f"Weights: {weights}   record: {record}")


def _zoo_model(
    zoo: Callable[[], Mapping[str, Callable]], name: str, given: Sequence[str]
) -> tuple[Callable, dict[str, Any]]:
    """Return what builds a model of the zoo from a number of features, and what its record says of it."""
    from vuilab.models.acoustic import build_by_name

    options = _model_options(given)
    return functools.partial(build_by_name, zoo(), name, **options), {"builder": {"name": name, "options": options}}


def _study_network(run_name: str, given: Sequence[str], name: str | None) -> tuple[Callable, str, dict[str, Any]]:
    """Return what builds a network of the study, the kind of features that its run name tells, and what its record says of it."""
    from vuilab.models.builder import RNNModel

    if given:
        raise ValueError("A network of the study has its options in its name: leave --model-options out.")
    if name is None:
        raise ValueError("A network of the study needs a --name for its files.")
    model, kind = RNNModel.parse(run_name)
    return model.build, kind, {"full_name": run_name, "builder": {"name": run_name, "options": {}}}


def _model_options(given: Sequence[str]) -> dict[str, Any]:
    """Return the builder's keyword arguments: KEY=VALUE, where a value that is no Python literal is text."""
    found: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (equals and key.isidentifier()):
            raise ValueError(f"--model-options are written KEY=VALUE, such as units=128. Received: {text!r}")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found
