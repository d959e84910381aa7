"""A network drawn unrolled in time: a dot for each layer and frame, a line for what it reads, and all that one output hears."""

from collections import defaultdict

import keras
import matplotlib.pyplot as plt
import seaborn
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

BESIDE = 0.42  # rows between the two directions of a bidirectional layer
FEW = 40  # input frames; of more, only what the output depends on is drawn
Node = tuple[float, float]  # where it is drawn: frame, row


def draw_unrolled(model: keras.Model, num_frames: int = 25) -> tuple[Figure, str]:
    """Draw what the output in the middle depends on.

    Batch normalisation, dropout and activations look at one frame at a time and are named beside the layer before them.

    Args:
        model: whose layers follow one another.
        num_frames: input frames that are drawn.

    Returns:
        (figure, alternative text).

    Raises:
        ValueError: when a layer reads several others.
    """
    rows, reads = _unroll(model, num_frames)
    labels, outputs = [label for label, _ in rows], rows[-1][1]
    heard, waiting = set(), [outputs[len(outputs) // 2]]
    while waiting:
        node = waiting.pop()
        if node not in heard:
            heard.add(node)
            waiting += reads[node]
    figure, ax = plt.subplots(figsize=(9, 0.55 * len(rows) + 0.8), layout="constrained")
    strong, weak = seaborn.color_palette("colorblind")[0], (0.8, 0.8, 0.8)
    lines = [(node in heard, (source, node)) for node, sources in reads.items() for source in sources]
    few = num_frames <= FEW
    for chosen, color, above in ((False, weak, 1), (True, strong, 2))[not few :]:
        ax.add_collection(
            LineCollection([line for on, line in lines if on == chosen], colors=[color], linewidths=0.8, zorder=above)
        )
        dots = [node for _, nodes in rows for node in nodes if (node in heard) == chosen]
        if dots:
            ax.scatter(*zip(*dots, strict=True), s=36 if few else 3, color=[color], zorder=above + 2)
    ax.set_yticks(range(len(rows)), labels)
    ax.set(xlabel="input frame", xlim=(-1, num_frames), ylim=(-0.5, len(rows) - 0.3))
    ax.grid(visible=False)
    seaborn.despine(ax=ax, left=True)
    inputs = [frame for frame, row in heard if row == 0]
    return figure, (
        f"{model.name} from below: {', '.join(labels)}. In blue all that one output depends on: {len(inputs)} of "
        f"{num_frames} input frames, {min(inputs):.0f} to {max(inputs):.0f}."
    )


def _unroll(model: keras.Model, num_frames: int) -> tuple[list[tuple[str, list[Node]]], dict[Node, list[Node]]]:
    """Return (label, dots) of each row from below, and what each dot reads."""
    rows: list[tuple[str, list[Node]]] = [("features", [(float(frame), 0.0) for frame in range(num_frames)])]
    reads: dict[Node, list[Node]] = defaultdict(list)
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer.input, list):
            raise ValueError(
                f"Only layers that follow one another can be drawn. Received: {layer.name} of several inputs"
            )
        label, below = rows[-1]
        if isinstance(layer, keras.layers.BatchNormalization | keras.layers.Dropout | keras.layers.Activation):
            rows[-1] = (f"{label} + {_short(layer)}", below)
        elif isinstance(layer, keras.layers.Conv1D):
            rows.append((_short(layer), _convolution(layer, below, float(len(rows)), reads)))
        elif isinstance(layer, keras.layers.Bidirectional) or hasattr(layer, "return_sequences"):
            both = isinstance(layer, keras.layers.Bidirectional)
            rows.append((_short(layer), _recurrent(below, float(len(rows)), reads, both)))
        else:
            dots = [(frame, float(len(rows))) for frame in dict.fromkeys(frame for frame, _ in below)]
            for dot in dots:
                reads[dot] += [node for node in below if node[0] == dot[0]]
            rows.append((_short(layer), dots))
    return rows, reads


def _convolution(layer, below: list[Node], row: float, reads: dict[Node, list[Node]]) -> list[Node]:
    by_frame: dict[float, list[Node]] = defaultdict(list)
    for node in below:
        by_frame[node[0]].append(node)
    frames, (kernel,), (stride,), (dilation,) = list(by_frame), layer.kernel_size, layer.strides, layer.dilation_rate
    reach = (kernel - 1) * dilation
    before = {"valid": 0, "causal": reach, "same": reach // 2}[layer.padding]
    dots = []
    for first in range(-before, len(frames) - before - (reach if layer.padding == "valid" else 0), stride):
        taps = [place for place in range(first, first + reach + 1, dilation) if 0 <= place < len(frames)]
        center = first + before if layer.padding != "valid" else first + reach // 2
        dots.append((frames[center], row))
        reads[dots[-1]] += [node for place in taps for node in by_frame[frames[place]]]
    return dots


def _recurrent(below: list[Node], row: float, reads: dict[Node, list[Node]], both: bool) -> list[Node]:
    frames = list(dict.fromkeys(frame for frame, _ in below))
    directions = [(row, frames)] + ([(row + BESIDE, frames[::-1])] if both else [])
    for height, order in directions:
        for before, frame in zip([None, *order], order, strict=False):
            reads[frame, height] += [node for node in below if node[0] == frame]
            if before is not None:
                reads[frame, height].append((before, height))
    return [(frame, height) for height, _ in directions for frame in frames]


def _short(layer: keras.layers.Layer) -> str:
    """Return what a reader needs to know of a layer in few words."""
    if isinstance(layer, keras.layers.Bidirectional):
        return f"{_short(layer.forward_layer)}, both ways"
    if isinstance(layer, keras.layers.Conv1D):
        details = [f"kernel {layer.kernel_size[0]}"]
        details += [f"stride {layer.strides[0]}"] * (layer.strides[0] > 1)
        details += [f"dilation {layer.dilation_rate[0]}"] * (layer.dilation_rate[0] > 1)
        return f"{layer.filters} convolution{'s' * (layer.filters > 1)}, {', '.join(details)}"
    if hasattr(layer, "return_sequences"):
        return f"{layer.units} {type(layer).__name__.removeprefix('Fast')}"
    if isinstance(layer, keras.layers.Dense):
        return f"dense, {layer.units}"
    if isinstance(layer, keras.layers.Activation):
        return str(layer.activation.__name__)
    return {"BatchNormalization": "batch norm"}.get(type(layer).__name__, type(layer).__name__.lower())
