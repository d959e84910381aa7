"""The questions of the study, each with the networks that answer it and what the reference found.

To add a question, add a `Question` to `QUESTIONS`; the notebook and `vui.py study` take it from there. Findings are those of the
reference study, in our words; `study/claims.py` checks them against runs.
"""

import dataclasses

from vuilab.models.builder import BidirectionalMerge, CNNConfig, RNNModel, RNNType
from vuilab.study.claims import Claim, Question, Setting

EVIDENCE_WIDTH = 128  # units and filters where several seeds are run on a small machine


def _convolutions(num_layers: int, kernel_size: int = 3, **options) -> CNNConfig:
    """Return the study's usual convolutions: stride 1, as many frames out as in, dropout, ReLU, normalisation."""
    usual = {"conv_stride": 1, "conv_border_mode": "same", "cnn_activation_before_bn_do": False}
    return CNNConfig(kernel_size=kernel_size, cnn_layers=num_layers, **{**usual, **options})


def _after_convolutions(cnn: CNNConfig | None, **options) -> Setting:
    """Return one bidirectional GRU behind these convolutions, with the block ReLU, normalisation, dropout behind it."""
    usual = {"activation_before_bn_do": True, "do_bn_order": False}
    return Setting(RNNModel(cnn, **{**usual, **options}))


def _final(**options) -> Setting:
    """Return the study's final network, or a variation: 8 convolutions and 4 densely connected GRU layers of 250 units."""
    cnn = _convolutions(options.pop("cnn_layers", 8), cnn_dropout_rate=0.25, cnn_activation_before_bn_do=True)
    usual = {"rnn_units": 250, "rnn_layers": 4, "rnn_dense": True, "dropout_rate": 0.3}
    return Setting(RNNModel(cnn, **{**usual, **options}))


def _small(cnn: CNNConfig | None = None, features: str = "spectrogram", **options) -> Setting:
    """Return the network of the comparisons with several seeds: a strided convolution and one bidirectional GRU."""
    cnn = cnn or CNNConfig(filters=EVIDENCE_WIDTH)
    return Setting(RNNModel(cnn, rnn_units=EVIDENCE_WIDTH, **options), features)


def _faster(setting: Setting) -> Setting:
    """Return the same setting with learning rate 0.05; its name says so."""
    return Setting(dataclasses.replace(setting.model, name_suffix="lr 0.05"), setting.features, learning_rate=0.05)


ORDERS = {  # of a block: (activation first, dropout before normalisation)
    "relu DO BN": (True, True),
    "relu BN DO": (True, False),
    "DO relu BN": (False, True),
    "BN relu DO": (False, False),
}


def _cnn_orders(make) -> dict[str, Setting]:
    return {
        label: _after_convolutions(make(cnn_activation_before_bn_do=first, cnn_do_bn_order=dropout_first))
        for label, (first, dropout_first) in ORDERS.items()
    }


QUESTIONS: tuple[Question, ...] = (
    Question(
        key="dense",
        title="Does the dense layer at each frame matter?",
        text="The recurrent output goes straight to softmax, or through a dense layer first. Outputs of tanh lie in -1..1, so "
        "that without the dense layer no class can be much more probable than another.",
        settings={
            "without": Setting(RNNModel(rnn_type=RNNType.LSTM, bd_merge=None, time_distributed_dense=False)),
            "with": Setting(RNNModel(rnn_type=RNNType.LSTM, bd_merge=None, activation_before_bn_do=True)),
        },
        claims=(Claim("the dense layer improves the loss drastically.", ("without",), "with"),),
        tiny=("without", "with"),
    ),
    Question(
        key="front",
        title="Does a convolution in front of the recurrent layer help?",
        text="One convolution (kernel 11, stride 2) sees 220 ms at once and halves the number of frames.",
        settings={
            "no convolution": Setting(RNNModel(rnn_type=RNNType.LSTM, bd_merge=None, activation_before_bn_do=True)),
            "one convolution": Setting(
                RNNModel(CNNConfig(), RNNType.LSTM, bd_merge=None, activation_before_bn_do=True)
            ),
        },
        claims=(
            Claim("a convolution in front improves the loss considerably.", ("no convolution",), "one convolution"),
        ),
        tiny=("one convolution",),
    ),
    Question(
        key="direction",
        title="One direction or two?",
        text="A bidirectional layer hears what comes next as well. Two recurrent layers; the first has one direction or two.",
        settings={
            "one": Setting(
                RNNModel(None, RNNType.LSTM, rnn_layers=2, bd_merge=None, rnn_bn=False, activation_before_bn_do=True)
            ),
            "two": Setting(RNNModel(None, RNNType.LSTM, rnn_layers=2, rnn_bn=False, activation_before_bn_do=True)),
        },
        claims=(Claim("every bidirectional model is better than the one with one direction.", ("one",), "two"),),
        tiny=("two",),
    ),
    Question(
        key="merge",
        title="How should the two directions be merged?",
        text="Side by side, added, averaged or multiplied.",
        settings={
            merge.value: Setting(
                RNNModel(None, RNNType.LSTM, rnn_layers=2, bd_merge=merge, rnn_bn=False, activation_before_bn_do=True)
            )
            for merge in BidirectionalMerge
        },
        claims=(
            Claim("side by side, added and averaged are about the same.", ("concat", "sum", "ave")),
            Claim("multiplying is probably the worst.", ("mul",), "concat"),
        ),
        evidence={merge.value: _small(bd_merge=merge) for merge in BidirectionalMerge},
        tiny=("mul",),
    ),
    Question(
        key="cnn_order",
        title="Does the order of normalisation, ReLU and dropout matter in a convolution?",
        text="All four orders, and the block without normalisation or without dropout.",
        settings={
            **_cnn_orders(CNNConfig),
            "without BN": _after_convolutions(CNNConfig(cnn_bn=False)),
            "without DO": _after_convolutions(CNNConfig(cnn_dropout_rate=0)),
        },
        claims=(
            Claim("the order does not matter.", tuple(ORDERS)),
            Claim(
                "without dropout it is considerably worse, although there is normalisation.",
                ("without DO",),
                "relu DO BN",
            ),
            Claim("without normalisation it is worse too.", ("without BN",), "relu DO BN"),
            Claim("dropout matters more than normalisation.", ("without DO",), "without BN"),
        ),
        tiny=("BN relu DO",),
    ),
    Question(
        key="cnn_order_deep",
        title="Does the order matter in eight convolutions?",
        text="The same four orders in a deep stack, where normalisation is said to matter most.",
        settings=_cnn_orders(lambda **order: _convolutions(8, **order)),
        claims=(
            Claim("again the order matters little.", tuple(ORDERS)),
            Claim("the recommended order BN, ReLU, dropout is if anything worse.", ("BN relu DO",), "DO relu BN"),
        ),
    ),
    Question(
        key="kernels",
        title="Small kernels and depth, or large kernels?",
        text="Stacks whose kernels together reach about equally far: one of 11, two and four of 5, five and eight of 3.",
        settings={
            "11 x1": _after_convolutions(CNNConfig(cnn_activation_before_bn_do=False)),
            "5 x2": _after_convolutions(_convolutions(2, 5)),
            "5 x4": _after_convolutions(_convolutions(4, 5)),
            "3 x5": _after_convolutions(_convolutions(5)),
            "3 x8": _after_convolutions(_convolutions(8)),
        },
        claims=(Claim("many layers with small kernels are better than few with large ones.", ("11 x1",), "3 x8"),),
        tiny=("5 x2",),
    ),
    Question(
        key="cnn_depth",
        title="How many convolutions?",
        text="Convolutions of kernel 3 in front of one bidirectional GRU.",
        settings={f"x{number}": _after_convolutions(_convolutions(number)) for number in (1, 3, 4, 6, 8, 10, 12, 16)},
        claims=(
            Claim("ten to twelve convolutions are best: more than eight.", ("x8",), "x12"),
            Claim("sixteen are no better than twelve.", ("x16",), "x12"),
            Claim("deeper is better up to there: six convolutions are better than one.", ("x1",), "x6"),
        ),
        evidence={
            f"x{number}": _small(_convolutions(number, filters=EVIDENCE_WIDTH), activation_before_bn_do=True)
            for number in (1, 3, 6)
        },
        tiny=("x4",),
    ),
    Question(
        key="dilation",
        title="Do dilated convolutions help?",
        text="Dilations 1, 2, 4, ... let a few layers reach far. Against twelve plain convolutions.",
        settings={
            "x12, plain": _after_convolutions(_convolutions(12)),
            **{
                f"x{number}, d=2": _after_convolutions(_convolutions(number, conv_border_mode="valid", dilation=2))
                for number in (2, 3, 4, 5, 6)
            },
        },
        claims=(Claim("dilations do not help.", tuple(f"x{number}, d=2" for number in (2, 3, 4, 5, 6)), "x12, plain"),),
        tiny=("x3, d=2",),
    ),
    Question(
        key="inverse_dilation",
        title="And dilations in the reverse order?",
        text="The far-reaching layers come first: 8, 4, 2, 1.",
        settings={
            "x12, plain": _after_convolutions(_convolutions(12)),
            **{
                f"x{number}, d={base}": _after_convolutions(
                    _convolutions(number, conv_border_mode="valid", dilation=base)
                )
                for number in (2, 4, 6)
                for base in (2, -2)
            },
        },
        claims=(
            Claim("they do not help either.", tuple(f"x{number}, d=-2" for number in (2, 4, 6)), "x12, plain"),
            Claim("they do about as well as the usual order.", ("x4, d=2", "x4, d=-2")),
        ),
        tiny=("x4, d=-2",),
    ),
    Question(
        key="cnn_dense",
        title="Do dense connections help among convolutions?",
        text="Each convolution sees the input and the outputs of all earlier ones, as in DenseNet (Huang et al., CVPR 2017), "
        "with fewer filters each.",
        settings={
            "x12, plain": _after_convolutions(_convolutions(12)),
            "x12, dense": _after_convolutions(
                _convolutions(12, filters=76, cnn_dense=True), activation_before_bn_do=False
            ),
            "x18, dense": _after_convolutions(
                _convolutions(18, filters=76, cnn_dense=True), activation_before_bn_do=False
            ),
            "x5, dense": _after_convolutions(_convolutions(5, filters=80, cnn_dense=True)),
        },
        claims=(Claim("dense connections do worse.", ("x12, dense", "x18, dense", "x5, dense"), "x12, plain"),),
        tiny=("x5, dense",),
    ),
    Question(
        key="rnn_order",
        title="What should stand between recurrent layers?",
        text="Four GRU layers behind one convolution, with and without normalisation and dropout between them.",
        settings={
            "nothing": _after_convolutions(CNNConfig(), rnn_layers=4, rnn_bn=False, rnn_dropout_rate=0),
            "BN": _after_convolutions(CNNConfig(), rnn_layers=4, rnn_dropout_rate=0),
            "DO": _after_convolutions(CNNConfig(), rnn_layers=4, rnn_bn=False),
            "BN and DO": _after_convolutions(CNNConfig(), rnn_layers=4),
        },
        claims=(
            Claim("dropout matters more than normalisation.", ("BN",), "DO"),
            Claim("with dropout, normalisation makes little difference.", ("DO", "BN and DO")),
        ),
        tiny=("DO",),
    ),
    Question(
        key="rnn_depth",
        title="How many recurrent layers?",
        text="GRU layers behind one convolution.",
        settings={f"x{number}": _after_convolutions(CNNConfig(), rnn_layers=number) for number in (1, 2, 4, 6, 8, 12)},
        claims=(
            Claim("about eight layers are best: better than four.", ("x4",), "x8"),
            Claim("twelve are no better than eight.", ("x12",), "x8"),
        ),
        tiny=("x2",),
    ),
    Question(
        key="dense_order",
        title="Does the order matter before the dense layer?",
        text="All four orders between the last recurrent layer and the dense layer, and the block without one part.",
        settings={
            **{
                label: Setting(
                    RNNModel(CNNConfig(), rnn_layers=4, activation_before_bn_do=first, do_bn_order=dropout_first)
                )
                for label, (first, dropout_first) in ORDERS.items()
            },
            "without BN": Setting(RNNModel(CNNConfig(), rnn_layers=4, bn=False)),
            "without DO": Setting(RNNModel(CNNConfig(), rnn_layers=4, dropout_rate=0)),
        },
        claims=(
            Claim("the recommended order BN, ReLU, dropout does about as well as the others here.", tuple(ORDERS)),
            Claim(
                "leaving out dropout costs a little more than leaving out normalisation.", ("without DO",), "without BN"
            ),
        ),
        tiny=("DO relu BN",),
    ),
    Question(
        key="deep_cnn_or_rnn",
        title="Deep convolutions or deep recurrence?",
        text="Eight recurrent layers behind one convolution, one behind twelve, and both deep.",
        settings={
            "CNN x1, RNN x8": _final(cnn_layers=1, rnn_units=200, rnn_layers=8, rnn_dense=False),
            "CNN x12, RNN x1": _final(cnn_layers=12, rnn_units=200, rnn_layers=1, rnn_dense=False),
            "CNN x12, RNN x8": _final(cnn_layers=12, rnn_units=200, rnn_layers=8, rnn_dense=False),
        },
        claims=(Claim("the three are about the same.", ("CNN x1, RNN x8", "CNN x12, RNN x1", "CNN x12, RNN x8")),),
    ),
    Question(
        key="rnn_dense",
        title="Do dense connections help among recurrent layers?",
        text="Each recurrent layer sees the output of the convolutions and of all earlier recurrent layers.",
        settings={
            "plain": _final(cnn_layers=12, rnn_units=200, rnn_dense=False),
            "dense": _final(cnn_layers=12, rnn_units=200),
        },
        claims=(Claim("dense connections give the best network so far.", ("plain",), "dense"),),
        tiny=("dense",),
    ),
    Question(
        key="width",
        title="How wide should the recurrent layers be?",
        text="Four densely connected GRU layers of 200, 250 and 300 units behind twelve convolutions.",
        settings={f"{units} units": _final(cnn_layers=12, rnn_units=units) for units in (200, 250, 300)},
        claims=(
            Claim("250 units are better than 200.", ("200 units",), "250 units"),
            Claim("more than 250 do not help.", ("300 units",), "250 units"),
        ),
    ),
    Question(
        key="cell",
        title="GRU or LSTM?",
        text="The final network with either cell. An LSTM has a third more weights than a GRU of the same width.",
        settings={
            "GRU": _final(),
            "LSTM": _final(rnn_type=RNNType.LSTM),
            "LSTM, DO(0.5)": _final(rnn_type=RNNType.LSTM, rnn_dropout_rate=0.5),
        },
        claims=(
            Claim("GRU reaches a slightly lower loss.", ("LSTM",), "GRU"),
            Claim("with dropout 0.5 the LSTM is level with the GRU.", ("LSTM, DO(0.5)", "GRU")),
        ),
        evidence={"GRU": _small(), "LSTM": _small(rnn_type=RNNType.LSTM)},
        tiny=("LSTM",),
    ),
    Question(
        key="dropout_cnn",
        title="How much dropout in the convolutions?",
        text="Twelve convolutions, dropout from 0 to 0.5; for several seeds, one strided convolution.",
        settings={
            f"DO({rate:g})": _after_convolutions(_convolutions(12, cnn_dropout_rate=rate))
            for rate in (0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
        },
        claims=(
            Claim("about a quarter is best: better than none.", ("DO(0)",), "DO(0.25)"),
            Claim("and better than 0.5.", ("DO(0.5)",), "DO(0.25)"),
        ),
        evidence={
            f"DO({rate:g})": _small(CNNConfig(filters=EVIDENCE_WIDTH, cnn_dropout_rate=rate)) for rate in (0, 0.25, 0.5)
        },
        tiny=("DO(0.4)",),
    ),
    Question(
        key="dropout_rnn",
        title="How much dropout between recurrent layers?",
        text="Four GRU layers behind one convolution.",
        settings={
            f"DO({rate:g})": _after_convolutions(CNNConfig(), rnn_layers=4, rnn_dropout_rate=rate)
            for rate in (0.1, 0.2, 0.3, 0.5)
        },
        claims=(Claim("about 0.2 is best.", ("DO(0.1)", "DO(0.3)", "DO(0.5)"), "DO(0.2)"),),
    ),
    Question(
        key="dropout_dense",
        title="How much dropout before the dense layer?",
        text="Four GRU layers behind one convolution.",
        settings={
            f"DO({rate:g})": Setting(RNNModel(CNNConfig(cnn_dropout_rate=0.25), rnn_layers=4, dropout_rate=rate))
            for rate in (0, 0.1, 0.2, 0.3, 0.5)
        },
        claims=(Claim("about 0.3 is best.", ("DO(0)", "DO(0.1)", "DO(0.5)"), "DO(0.3)"),),
    ),
    Question(
        key="learning_rate",
        title="Learning rate 0.02 or 0.05?",
        text="Stochastic gradient descent with Nesterov momentum, twelve convolutions.",
        settings={
            "0.02": _after_convolutions(_convolutions(12)),
            "0.05": _faster(_after_convolutions(_convolutions(12))),
        },
        claims=(),
    ),
    Question(
        key="no_rnn",
        title="Do convolutions alone suffice?",
        text="Without a recurrent layer the last convolution goes straight to the dense layer.",
        settings={
            "CNN x12 alone": dataclasses.replace(
                _after_convolutions(_convolutions(12), rnn_layers=0), learning_rate=0.05
            ),
            "CNN x12, RNN x1": _after_convolutions(_convolutions(12)),
        },
        claims=(Claim("at least one recurrent layer is needed.", ("CNN x12 alone",), "CNN x12, RNN x1"),),
        tiny=("CNN x12 alone",),
    ),
    Question(
        key="features",
        title="Spectrogram or MFCC?",
        text="The final network on 161 frequency bins or on 26 cepstral coefficients.",
        settings={"spectrogram": _final(), "MFCC": dataclasses.replace(_final(), features="mfcc")},
        claims=(Claim("both train almost identically.", ("spectrogram", "MFCC")),),
        evidence={"spectrogram": _small(), "MFCC": _small(features="mfcc")},
        tiny=("spectrogram", "MFCC"),
    ),
    Question(
        key="raw",
        title="Can a network hear the waveform itself?",
        text="The 16,000 samples of a second in the place of features. Three convolutions of stride 6 leave 74 frames a second "
        "and have to learn by themselves what the Fourier transform does.",
        settings={
            "raw": Setting(
                RNNModel(CNNConfig(kernel_size=13, conv_stride=6, cnn_layers=3, conv_border_mode="same")),
                features="raw",
            ),
            "spectrogram": Setting(RNNModel(CNNConfig())),
        },
        claims=(),
        tiny=("raw",),
    ),
)

BY_KEY = {question.key: question for question in QUESTIONS}


def question(key: str) -> Question:
    """Return a question by its key.

    Raises:
        ValueError: when there is no such question.
    """
    if key not in BY_KEY:
        raise ValueError(f"Unknown question {key!r}. Expected one of: {', '.join(BY_KEY)}")
    return BY_KEY[key]
