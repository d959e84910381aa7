"""The questions of the study, each with the networks that answer it and what the reference found.

To add a question, add one to `QUESTIONS`; the notebook and `vui.py study` take it from there. Findings are those of the
reference study, in our words; `study/claims.py` checks them against runs.
"""

import dataclasses
import functools

from vuilab.models.builder import BidirectionalMerge, CNNConfig, RNNModel, RNNType
from vuilab.study.claims import Claim, Question, Setting

EVIDENCE_WIDTH = 128  # units and filters where several seeds are run on a small machine
ORDERS = {  # of a block: (activation first, dropout before normalisation)
    "relu DO BN": (True, True),
    "relu BN DO": (True, False),
    "DO relu BN": (False, True),
    "BN relu DO": (False, False),
}


def _question(title: str, text: str, settings: dict[str, Setting], *claims: Claim, **more) -> Question:
    """Return a question; the comparison with several seeds takes what its claims speak of, 128 wide, unless told otherwise."""
    needed = dict.fromkeys(label for claim in claims for label in claim.labels) or settings
    more.setdefault("evidence", {label: settings[label].scaled(EVIDENCE_WIDTH) for label in needed})
    return Question(title, text, settings, claims, **more)


def _lstm(cnn: CNNConfig | None = None, **options) -> Setting:
    """Return the network that the study begins with: one LSTM of one direction."""
    usual = {"rnn_type": RNNType.LSTM, "bd_merge": None, "activation_before_bn_do": True}
    return Setting(RNNModel(cnn, **{**usual, **options}))


def _convolutions(num_layers: int, kernel_size: int = 3, **options) -> CNNConfig:
    """Return the study's usual convolutions: stride 1, as many frames out as in, dropout, ReLU, normalisation."""
    usual = {"conv_stride": 1, "conv_border_mode": "same", "cnn_activation_before_bn_do": False}
    return CNNConfig(kernel_size=kernel_size, cnn_layers=num_layers, **{**usual, **options})


def _gru(cnn: CNNConfig | None, **options) -> Setting:
    """Return one bidirectional GRU behind these convolutions, with the block ReLU, normalisation, dropout behind it."""
    return Setting(RNNModel(cnn, **{"activation_before_bn_do": True, **options}))


def _dilated(num_layers: int, base: int = 2) -> Setting:
    return _gru(_convolutions(num_layers, conv_border_mode="valid", dilation=base))


def _dense(num_layers: int, filters: int, **options) -> Setting:
    return _gru(_convolutions(num_layers, filters=filters, cnn_dense=True), **options)


def _orders(make) -> dict[str, Setting]:
    """Return a network for each order of the block in the convolutions that `make` makes."""
    return {
        label: _gru(make(cnn_activation_before_bn_do=first, cnn_do_bn_order=dropout_first))
        for label, (first, dropout_first) in ORDERS.items()
    }


def _final(cnn_layers: int = 8, **options) -> Setting:
    """Return the study's final network, or a variation: 8 convolutions and 4 densely connected GRU layers of 250 units."""
    cnn = _convolutions(cnn_layers, cnn_dropout_rate=0.25, cnn_activation_before_bn_do=True)
    usual = {"rnn_units": 250, "rnn_layers": 4, "rnn_dense": True, "dropout_rate": 0.3}
    return Setting(RNNModel(cnn, **{**usual, **options}))


def _deep(cnn_layers: int, rnn_layers: int = 4, **options) -> Setting:
    """Return a network as deep as the final one, or deeper, of 200 units."""
    return _final(cnn_layers, rnn_layers=rnn_layers, **{"rnn_units": 200, "rnn_dense": False, **options})


def _small(cnn: CNNConfig | None = None, features: str = "spectrogram", **options) -> Setting:
    """Return the network of the comparisons with several seeds: a strided convolution and one bidirectional GRU."""
    cnn = cnn or CNNConfig(filters=EVIDENCE_WIDTH)
    return Setting(RNNModel(cnn, rnn_units=EVIDENCE_WIDTH, **options), features)


QUESTIONS: dict[str, Question] = {
    "dense": _question(
        "Does the dense layer at each frame matter?",
        "The recurrent output goes straight to softmax, or through a dense layer first. Outputs of tanh lie in -1..1, so "
        "that without the dense layer no class can be much more probable than another.",
        {"without": _lstm(time_distributed_dense=False), "with": _lstm()},
        Claim("the dense layer improves the loss drastically.", ("without",), "with"),
        tiny=("without", "with"),
    ),
    "front": _question(
        "Does a convolution in front of the recurrent layer help?",
        "One convolution (kernel 11, stride 2) sees 220 ms at once and halves the number of frames.",
        {"no convolution": _lstm(), "one convolution": _lstm(CNNConfig())},
        Claim("a convolution in front improves the loss considerably.", ("no convolution",), "one convolution"),
        tiny=("one convolution",),
    ),
    "direction": _question(
        "One direction or two?",
        "A bidirectional layer hears what comes next as well. Two recurrent layers; the first has one direction or two.",
        {"one": _lstm(rnn_layers=2, rnn_bn=False), "two": _lstm(rnn_layers=2, rnn_bn=False, bd_merge="concat")},
        Claim("every bidirectional model is better than the one with one direction.", ("one",), "two"),
        tiny=("two",),
    ),
    "merge": _question(
        "How should the two directions be merged?",
        "Side by side, added, averaged or multiplied.",
        {merge.value: _lstm(rnn_layers=2, rnn_bn=False, bd_merge=merge) for merge in BidirectionalMerge},
        Claim("side by side, added and averaged are about the same.", ("concat", "sum", "ave")),
        Claim("multiplying is probably the worst.", ("mul",), "concat"),
        evidence={merge.value: _small(bd_merge=merge) for merge in BidirectionalMerge},
        tiny=("mul",),
    ),
    "cnn_order": _question(
        "Does the order of normalisation, ReLU and dropout matter in a convolution?",
        "All four orders, and the block without normalisation or without dropout.",
        _orders(CNNConfig)
        | {"without BN": _gru(CNNConfig(cnn_bn=False)), "without DO": _gru(CNNConfig(cnn_dropout_rate=0))},
        Claim("the order does not matter.", tuple(ORDERS)),
        Claim(
            "without dropout it is considerably worse, although there is normalisation.", ("without DO",), "relu DO BN"
        ),
        Claim("without normalisation it is worse too.", ("without BN",), "relu DO BN"),
        Claim("dropout matters more than normalisation.", ("without DO",), "without BN"),
        tiny=("BN relu DO",),
    ),
    "cnn_order_two": _question(
        "Does the order matter in two convolutions?",
        "The same orders in two convolutions of kernel 11 and stride 2.",
        _orders(functools.partial(CNNConfig, cnn_layers=2)),
        Claim("again the order matters little.", tuple(ORDERS)),
        Claim("the recommended order BN, ReLU, dropout is if anything worse.", ("BN relu DO",), "DO relu BN"),
    ),
    "cnn_order_deep": _question(
        "Does the order matter in three and eight convolutions?",
        "The same orders in deeper stacks, where normalisation is said to matter most.",
        {f"x3, {label}": setting for label, setting in _orders(functools.partial(_convolutions, 3, 5)).items()}
        | {f"x8, {label}": setting for label, setting in _orders(functools.partial(_convolutions, 8)).items()},
        Claim("in three the order matters little.", tuple(f"x3, {label}" for label in ORDERS)),
        Claim("in eight the order matters little.", tuple(f"x8, {label}" for label in ORDERS)),
        Claim("the recommended order BN, ReLU, dropout is the worst in eight.", ("x8, BN relu DO",), "x8, DO relu BN"),
    ),
    "kernels": _question(
        "Small kernels and depth, or large kernels?",
        "Stacks whose kernels together reach about equally far: one of 11, two and four of 5, five and eight of 3.",
        {"11 x1": _gru(CNNConfig(cnn_activation_before_bn_do=False))}
        | {f"{size} x{n}": _gru(_convolutions(n, size)) for n, size in ((2, 5), (4, 5), (5, 3), (8, 3))},
        Claim("many layers with small kernels are better than few with large ones.", ("11 x1",), "3 x8"),
        tiny=("5 x2",),
    ),
    "cnn_depth": _question(
        "How many convolutions?",
        "Convolutions of kernel 3 in front of one bidirectional GRU.",
        {f"x{number}": _gru(_convolutions(number)) for number in (1, 3, 4, 6, 8, 10, 12, 16)},
        Claim("ten to twelve convolutions are best: more than eight.", ("x8",), "x12"),
        Claim("sixteen are no better than twelve.", ("x16",), "x12"),
        Claim("deeper is better up to there: six convolutions are better than one.", ("x1",), "x6"),
        tiny=("x4",),
    ),
    "dilation": _question(
        "Do dilated convolutions help?",
        "Dilations 1, 2, 4, ... let a few layers reach far. Against twelve plain convolutions.",
        {"x12, plain": _gru(_convolutions(12))} | {f"x{number}, d=2": _dilated(number) for number in range(2, 7)},
        Claim("dilations do not help.", tuple(f"x{number}, d=2" for number in range(2, 7)), "x12, plain"),
        tiny=("x3, d=2",),
    ),
    "inverse_dilation": _question(
        "And dilations in the reverse order?",
        "The far-reaching layers come first: 8, 4, 2, 1.",
        {"x12, plain": _gru(_convolutions(12))}
        | {f"x{number}, d={base}": _dilated(number, base) for number in range(2, 7) for base in (2, -2)}
        | {"x2, d=-2, kernel 11": _gru(_convolutions(2, 11, conv_border_mode="valid", dilation=-2))},
        Claim(
            "they do not help either.",
            (*(f"x{number}, d=-2" for number in range(2, 7)), "x2, d=-2, kernel 11"),
            "x12, plain",
        ),
        *(
            Claim(f"{number} layers do about as well in either order.", (f"x{number}, d=2", f"x{number}, d=-2"))
            for number in range(2, 7)
        ),
        tiny=("x4, d=-2",),
    ),
    "dilation_order": _question(
        "Does the order of normalisation, ReLU and dropout matter with dilations?",
        "The same orders in four dilated convolutions, and more dropout.",
        _orders(functools.partial(_convolutions, 4, conv_border_mode="valid", dilation=2))
        | {"DO(0.4) relu BN": _gru(_convolutions(4, conv_border_mode="valid", dilation=2, cnn_dropout_rate=0.4))},
        Claim("again the order does not matter.", tuple(ORDERS)),
    ),
    "cnn_dense": _question(
        "Do dense connections help among convolutions?",
        "Each convolution sees the input and the outputs of all earlier ones, as in DenseNet (Huang et al., CVPR 2017), "
        "with fewer filters each.",
        {
            "x12, plain": _gru(_convolutions(12)),
            "x12, dense": _dense(12, 76, activation_before_bn_do=False),
            "x18, dense": _dense(18, 76, activation_before_bn_do=False),
            "x5, dense": _dense(5, 80),
            "x6, dense, wide": _dense(6, 200, activation_before_bn_do=False),
        },
        Claim(
            "dense connections do worse.", ("x12, dense", "x18, dense", "x5, dense", "x6, dense, wide"), "x12, plain"
        ),
        tiny=("x5, dense",),
    ),
    "rnn_order": _question(
        "What should stand between recurrent layers?",
        "Four GRU layers behind one convolution, with and without normalisation and dropout between them.",
        {
            "nothing": _gru(CNNConfig(), rnn_layers=4, rnn_bn=False, rnn_dropout_rate=0),
            "BN": _gru(CNNConfig(), rnn_layers=4, rnn_dropout_rate=0),
            "DO": _gru(CNNConfig(), rnn_layers=4, rnn_bn=False),
            "BN and DO": _gru(CNNConfig(), rnn_layers=4),
        },
        Claim("dropout matters more than normalisation.", ("BN",), "DO"),
        Claim("with dropout, normalisation makes little difference.", ("DO", "BN and DO")),
        tiny=("DO",),
    ),
    "rnn_depth_alone": _question(
        "Do more recurrent layers help without a convolution?",
        "One, two and three LSTM layers of one direction on the features themselves.",
        {f"x{number}": _lstm(rnn_layers=number, rnn_bn=False) for number in (1, 2, 3)},
        Claim("two are better than one.", ("x1",), "x2"),
        Claim("three are better than two.", ("x2",), "x3"),
    ),
    "rnn_depth": _question(
        "How many recurrent layers behind a convolution?",
        "GRU layers behind one convolution.",
        {f"x{number}": _gru(CNNConfig(), rnn_layers=number) for number in (1, 2, 4, 6, 8, 12)},
        Claim("about eight layers are best: better than four.", ("x4",), "x8"),
        Claim("twelve are no better than eight.", ("x12",), "x8"),
        tiny=("x2",),
    ),
    "dense_order": _question(
        "Does the order matter before the dense layer?",
        "All four orders between the last recurrent layer and the dense layer, and the block without one part.",
        {
            label: _gru(CNNConfig(), rnn_layers=4, activation_before_bn_do=first, do_bn_order=dropout_first)
            for label, (first, dropout_first) in ORDERS.items()
        }
        | {
            "without BN": _gru(CNNConfig(), rnn_layers=4, activation_before_bn_do=False, bn=False),
            "without DO": _gru(CNNConfig(), rnn_layers=4, activation_before_bn_do=False, dropout_rate=0),
        },
        Claim("the recommended order BN, ReLU, dropout does about as well as the others here.", tuple(ORDERS)),
        Claim("leaving out dropout costs a little more than leaving out normalisation.", ("without DO",), "without BN"),
        tiny=("DO relu BN",),
    ),
    "deep_cnn_or_rnn": _question(
        "Deep convolutions or deep recurrence?",
        "Eight recurrent layers behind one convolution, one behind twelve, and both deep.",
        {f"CNN x{cnn}, RNN x{rnn}": _deep(cnn, rnn) for cnn, rnn in ((1, 8), (12, 1), (12, 8))},
        Claim("the three are about the same.", ("CNN x1, RNN x8", "CNN x12, RNN x1", "CNN x12, RNN x8")),
    ),
    "rnn_dense": _question(
        "Do dense connections help among recurrent layers?",
        "Each recurrent layer sees the output of the convolutions and of all earlier recurrent layers.",
        {"plain": _deep(12), "dense": _deep(12, rnn_dense=True)},
        Claim("dense connections give the best network so far.", ("plain",), "dense"),
        tiny=("dense",),
    ),
    "width": _question(
        "How wide should the recurrent layers be?",
        "Four densely connected GRU layers of 200, 250 and 300 units behind twelve convolutions.",
        {f"{units} units": _final(12, rnn_units=units) for units in (200, 250, 300)},
        Claim("250 units are better than 200.", ("200 units",), "250 units"),
        Claim("more than 250 do not help.", ("300 units",), "250 units"),
    ),
    "final_depth": _question(
        "Eight convolutions or twelve in the final network?",
        "In front of four densely connected GRU layers of 250 units.",
        {"x8": _final(8), "x12": _final(12)},
        Claim("eight are as good as twelve there.", ("x8", "x12")),
    ),
    "cell": _question(
        "GRU or LSTM?",
        "The final network with either cell. An LSTM has a third more weights than a GRU of the same width.",
        {
            "GRU": _final(),
            "LSTM": _final(rnn_type=RNNType.LSTM),
            "LSTM, DO(0.5)": _final(rnn_type=RNNType.LSTM, rnn_dropout_rate=0.5),
        },
        Claim("GRU reaches a slightly lower loss.", ("LSTM",), "GRU"),
        Claim("with dropout 0.5 the LSTM is level with the GRU.", ("LSTM, DO(0.5)", "GRU")),
        evidence={
            "GRU": _small(rnn_layers=2),
            "LSTM": _small(rnn_layers=2, rnn_type=RNNType.LSTM),
            "LSTM, DO(0.5)": _small(rnn_layers=2, rnn_type=RNNType.LSTM, rnn_dropout_rate=0.5),
        },
        tiny=("LSTM",),
    ),
    "dropout_cnn": _question(
        "How much dropout in the convolutions?",
        "Twelve convolutions, dropout from 0 to 0.5; for several seeds, one strided convolution.",
        {
            f"DO({rate:g})": _gru(_convolutions(12, cnn_dropout_rate=rate))
            for rate in (0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
        },
        Claim("about a quarter is best: better than none.", ("DO(0)",), "DO(0.25)"),
        Claim("and better than 0.5.", ("DO(0.5)",), "DO(0.25)"),
        evidence={
            f"DO({rate:g})": _small(CNNConfig(filters=EVIDENCE_WIDTH, cnn_dropout_rate=rate)) for rate in (0, 0.25, 0.5)
        },
        tiny=("DO(0.4)",),
    ),
    "dropout_rnn": _question(
        "How much dropout between recurrent layers?",
        "Four GRU layers behind one convolution.",
        {f"DO({rate:g})": _gru(CNNConfig(), rnn_layers=4, rnn_dropout_rate=rate) for rate in (0.1, 0.2, 0.3, 0.5)},
        Claim("about 0.2 is best.", ("DO(0.1)", "DO(0.3)", "DO(0.5)"), "DO(0.2)"),
    ),
    "dropout_dense": _question(
        "How much dropout before the dense layer?",
        "Four GRU layers behind one convolution.",
        {
            f"DO({rate:g})": Setting(RNNModel(CNNConfig(cnn_dropout_rate=0.25), rnn_layers=4, dropout_rate=rate))
            for rate in (0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
        },
        Claim("about 0.3 is best.", ("DO(0)", "DO(0.1)", "DO(0.25)", "DO(0.4)", "DO(0.5)"), "DO(0.3)"),
    ),
    "learning_rate": _question(
        "Learning rate 0.02 or 0.05?",
        "Stochastic gradient descent with Nesterov momentum, twelve convolutions.",
        {
            "0.02": _gru(_convolutions(12)),
            "0.05": dataclasses.replace(_gru(_convolutions(12), name_suffix="lr 0.05"), learning_rate=0.05),
        },
    ),
    "no_rnn": _question(
        "Do convolutions alone suffice?",
        "Without a recurrent layer the last convolution goes straight to the dense layer.",
        {
            "CNN x12 alone": dataclasses.replace(_gru(_convolutions(12), rnn_layers=0), learning_rate=0.05),
            "CNN x12, RNN x1": _gru(_convolutions(12)),
        },
        Claim("at least one recurrent layer is needed.", ("CNN x12 alone",), "CNN x12, RNN x1"),
        tiny=("CNN x12 alone",),
    ),
    "features": _question(
        "Spectrogram or MFCC?",
        "The final network on 161 frequency bins or on 26 cepstral coefficients.",
        {"spectrogram": _final(), "MFCC": dataclasses.replace(_final(), features="mfcc")},
        Claim("both train almost identically.", ("spectrogram", "MFCC")),
        evidence={"spectrogram": _small(), "MFCC": _small(features="mfcc")},
        tiny=("spectrogram", "MFCC"),
    ),
    "raw": _question(
        "Can a network hear the waveform itself?",
        "The 16,000 samples of a second in the place of features. Three convolutions of stride 6 leave 74 frames a second "
        "and have to learn by themselves what the Fourier transform does.",
        {
            "raw": Setting(RNNModel(CNNConfig(200, 13, 6, "same", cnn_layers=3)), "raw"),
            "spectrogram": Setting(RNNModel(CNNConfig())),
        },
        tiny=("raw",),
    ),
}


def question(key: str) -> Question:
    """Return a question by its key.

    Raises:
        ValueError: when there is no such question.
    """
    if key not in QUESTIONS:
        raise ValueError(f"Unknown question {key!r}. Expected one of: {', '.join(QUESTIONS)}")
    return QUESTIONS[key]
