"""Run names of the study: the notation of `builder.py`, written and read."""

import re

from vuilab.models.builder import BLOCK, FEATURE_TOKENS, BidirectionalMerge, CNNConfig, RNNModel, RNNType

PARTS = {
    "features": r"(Spec|MFCC|LogMel|Raw)(?: |$)",
    "cnn": rf"CNN(_DENSE)?\((\d+) \((\d+),(\d+)\)(?: (valid|same|causal))? ({BLOCK})\)(?:x(\d+))?(?:,d=(-?\d+))?(?: |$)",
    "merge": r"BD\((concat|sum|ave|mul)\)(?: |$)",
    "rnn": rf"(GRU|LSTM|SimpleRNN)(_DENSE)?\((\d+) x(\d+)(?: ({BLOCK})\(:-1\))?\)(?: |$)",
    "block": rf"({BLOCK})(?: |$)",
    "dense": r"TD\(D\)(?: |$)",
}
NOTATION = "Expected: features, CNN(...), BD(...), cell(...), block, TD(D), suffix, as builder.py describes."


def cnn_name(config: CNNConfig) -> str:
    """Return the convolutions' part of a run name."""
    follows_rule = config.conv_border_mode == _usual_border_mode(config.conv_stride, config.dilation)
    return (
        f"CNN{'_DENSE' if config.cnn_dense else ''}({config.filters} ({config.kernel_size},{config.conv_stride})"
        + ("" if follows_rule else f" {config.conv_border_mode}")
        + f" {' '.join(config.block)})"
        + (f"x{config.cnn_layers}" if config.cnn_layers > 1 else "")
        + (f",d={config.dilation}" if config.dilation != 1 else "")
    )


def _usual_border_mode(stride: int, dilation: int) -> str:
    """Return the border mode that a run name leaves out."""
    return "valid" if stride == 2 or dilation != 1 else "same"


def parse_name(name: str) -> tuple[RNNModel, str]:
    """Read a run name part by part, from the left; the reference's CuDNNGRU is GRU here, whose fast form is chosen by itself."""
    name = re.sub(r"\bCuDNN(?=GRU|LSTM)", "", name)
    rest, found = name, {}
    for part, pattern in PARTS.items():
        match = re.match(pattern, rest)
        if match:
            found[part], rest = match, rest[match.end() :]
        elif part == "features":
            raise ValueError(f"A run name begins with one of {list(FEATURE_TOKENS.values())}. Received: {name!r}")
    if "(" in rest or ("dense" in found) != ("block" in found):
        raise ValueError(
            f"{name!r} does not follow the notation"
            + (f" from {rest!r} on" if "(" in rest else ": a block such as 'BN relu DO(0.2)' and TD(D) stand together")
            + f". {NOTATION}"
        )
    options: dict = {"time_distributed_dense": "dense" in found, "name_suffix": rest or None, "rnn_layers": 0}
    options["bd_merge"] = BidirectionalMerge[found["merge"][1]] if "merge" in found else None
    if "rnn" in found:
        cell, dense, units, num_layers, block = found["rnn"].groups()
        options |= {"rnn_type": RNNType[cell], "rnn_dense": bool(dense)}
        options |= {"rnn_units": int(units), "rnn_layers": int(num_layers)}
        if block:
            options |= {f"rnn_{name}": _parse_block(block)[name] for name in ("bn", "dropout_rate")}
    if "block" in found:
        options |= _parse_block(found["block"][1])
    model = RNNModel(_parse_cnn(found["cnn"]) if "cnn" in found else None, **options)
    features = next(kind for kind, token in FEATURE_TOKENS.items() if token == found["features"][1])
    if model.name(features) != name:  # parts in another order, a part that the others rule out, or trailing spaces
        raise ValueError(
            f"{name!r} does not follow the notation: what was understood is written {model.name(features)!r}. {NOTATION}"
        )
    return model, features


def _parse_cnn(match: re.Match) -> CNNConfig:
    dense, filters, kernel, stride, border_mode, block, num_layers, dilation = match.groups()
    stride, dilation = int(stride), int(dilation or 1)
    border_mode = border_mode or _usual_border_mode(stride, dilation)
    order = {f"cnn_{name}": value for name, value in _parse_block(block).items()}
    sizes = int(filters), int(kernel), stride, border_mode, int(num_layers or 1)
    return CNNConfig(*sizes, cnn_dense=bool(dense), dilation=dilation, **order)


def _parse_block(text: str) -> dict:
    """Return the fields of `RNNModel` that make a block; those of `CNNConfig` and between recurrent layers have a prefix."""
    tokens = text.split()
    kinds = [token[:2] for token in tokens]
    if kinds.count("re") != 1 or len(set(kinds)) != len(kinds):
        raise ValueError(f"A block holds 'relu' once, and 'BN' and 'DO(rate)' at most once each. Received: {text!r}")
    rate = next((float(token[3:-1]) for token in tokens if token.startswith("DO")), 0.0)
    dropout_first = "DO" in kinds and ("BN" not in kinds or kinds.index("DO") < kinds.index("BN"))
    fields = {"activation_before_bn_do": kinds[0] == "re", "do_bn_order": dropout_first}
    return {**fields, "bn": "BN" in kinds, "dropout_rate": rate}
