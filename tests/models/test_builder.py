"""The study's builder: the reference's parameter counts, the order of layers, names that round-trip, refused combinations."""

import dataclasses
import itertools
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from vuilab.models.builder import BidirectionalMerge, CNNConfig, RNNModel, RNNType

ROWS = json.loads((Path(__file__).parent / "reference_models.json").read_text())
NAMES = (Path(__file__).parent / "reference_names.txt").read_text().splitlines()


def quiet(model, input_dim=13, **options):
    return model.build(input_dim, print_summary=False, **options)


def layer_kinds(network):
    """The chain of layers from input to softmax, joins left out; ReLU counts wherever it stands."""
    kinds = []
    for layer in network.layers[1:-1]:
        if isinstance(layer, keras.layers.Activation):
            kinds.append("relu")
        elif isinstance(layer, keras.layers.Dropout):
            kinds.append(f"DO({layer.rate})")
        elif isinstance(layer, keras.layers.BatchNormalization):
            kinds.append("BN")
        elif not isinstance(layer, keras.layers.Concatenate):
            kinds.append(layer.name)
            if getattr(layer, "activation", None) is keras.activations.relu:
                kinds.append("relu")
    return kinds


def reference_model(row):
    cnn = CNNConfig(**row["cnn_config"]) if row["cnn_config"] is not None else None
    return RNNModel(cnn, **row["rnn_model"])


CONTRACT = (0, 1)  # two cells; a backend builds what it is told, and JAX compiles each shape of weights
ROWS_MARKED = [
    pytest.param(row, id=str(number), marks=[pytest.mark.contract] * (number in CONTRACT))
    for number, row in enumerate(ROWS)
]


@pytest.mark.parametrize("row", ROWS_MARKED)
def test_parameters_are_those_that_the_reference_printed(row):
    model = reference_model(row)
    network = quiet(model, row["input_dim"])
    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    second_bias = 0  # the reference's LSTM had two bias vectors of 4 x units each, Keras 3 has one
    if model.rnn_type is RNNType.LSTM:
        directions = model.rnn_layers + (model.bd_merge is not None)
        second_bias = 4 * model.rnn_units * directions
    assert network.count_params() == row["total_params"] - second_bias
    assert trainable == row["trainable_params"] - second_bias


# ------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_s_run_names_round_trip(name):
    model, features = RNNModel.parse(name)
    assert model.name(features) == name


def all_models():
    """Every choice of one axis with every choice of another, on a small base."""
    cnn_axes = {
        "cnn_layers": [1, 3],
        "cnn_dropout_rate": [0, 0.35],
        "cnn_bn": [True, False],
        "cnn_activation_before_bn_do": [True, False],
        "cnn_do_bn_order": [True, False],
        "conv_border_mode": ["same", "valid", "causal"],
        "dilation": [1, 2, -2],
    }
    rnn_axes = {
        "rnn_type": list(RNNType),
        "rnn_layers": [1, 3],
        "bd_merge": [None, *BidirectionalMerge],
        "rnn_bn": [True, False],
        "rnn_dropout_rate": [0, 0.1],
        "rnn_dense": [True, False],
        "activation_before_bn_do": [True, False],
        "do_bn_order": [True, False],
        "bn": [True, False],
        "dropout_rate": [0, 0.3],
        "name_suffix": [None, "Final"],
    }
    base = CNNConfig(filters=6, kernel_size=3, conv_stride=1, conv_border_mode="same")
    for (first, a), (second, b) in itertools.combinations(cnn_axes.items(), 2):
        for x, y in itertools.product(a, b):
            yield RNNModel(dataclasses.replace(base, **{first: x, second: y}), rnn_units=5)
    for (first, a), (second, b) in itertools.combinations(rnn_axes.items(), 2):
        for x, y in itertools.product(a, b):
            yield RNNModel(None, rnn_units=5, **{first: x, second: y})


def test_every_pair_of_choices_round_trips_to_the_same_network():
    count = 0
    for model in all_models():
        name = model.name("mfcc")
        again, features = RNNModel.parse(name)
        assert again.name(features) == name
        assert (again.block, again.rnn_block) == (model.block, again.rnn_block) and features == "mfcc"
        if model.cnn_config:
            assert again.cnn_config.block == model.cnn_config.block
            assert again.cnn_config.dilations == model.cnn_config.dilations
            assert again.cnn_config.conv_border_mode == model.cnn_config.conv_border_mode
        if model.rnn_layers > 1:
            assert again.rnn_block == model.rnn_block
        count += 1
    assert count > 300


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("GRU(200 x1)", "begins with one of"),
        ("Spec GRU(200 x1) (relu) BN TD(D)", "notation from .*relu.* on"),
        ("Spec GRU(200 x1) BN DO(0.2) TD(D)", "'relu' once"),
        ("Spec GRU(200 x1) relu relu TD(D)", "'relu' once"),
        ("Spec GRU(200 x1) BN DO(0.2) relu TD(D)", "does not follow the notation"),
        ("Spec GRU(200 x1) BN relu DO(0.2) TD(D) ", "does not follow the notation"),
        ("Spec  GRU(200 x1) BN relu TD(D)", "notation from ' GRU"),
        ("Spec GRU(200 x1) BD(sum) BN relu TD(D)", "notation from 'BD"),
        ("Spec GRU(200 x1) BN relu", "stand together"),
        ("Spec GRU(200 x1) TD(D)", "stand together"),
        ("Spec BD(sum) CNN(6 (3,1) relu) TD(D)", "notation from 'CNN"),
        ("Spec", "needs convolutions"),
    ],
)
def test_what_is_no_run_name_is_refused(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        RNNModel.parse(name)


@pytest.mark.parametrize("suffix", ["", " Final", "two  spaces", "BN more", "(relu) TD(D)", "GRU(3 x1)"])
def test_a_suffix_that_reads_like_a_part_is_refused(suffix):
    with pytest.raises(ValueError, match="name_suffix"):
        RNNModel(name_suffix=suffix)


# ---------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("activation_first", [True, False])
@pytest.mark.parametrize("dropout_first", [True, False])
def test_layers_stand_in_the_order_that_the_name_says(activation_first, dropout_first):
    config = CNNConfig(6, 3, 1, "same", 2, 0.25, True, activation_first, dropout_first)
    model = RNNModel(
        config,
        rnn_units=5,
        rnn_layers=2,
        activation_before_bn_do=activation_first,
        do_bn_order=dropout_first,
        dropout_rate=0.25,
    )
    orders = {
        (True, True): ["relu", "DO(0.25)", "BN"],
        (True, False): ["relu", "BN", "DO(0.25)"],
        (False, True): ["DO(0.25)", "relu", "BN"],
        (False, False): ["BN", "relu", "DO(0.25)"],
    }
    block = orders[activation_first, dropout_first]
    expected = ["conv1d_1", *block, "conv1d_2", *block, "bd_rnn_1", "BN", "relu", "DO(0.2)", "rnn_2", *block]
    assert layer_kinds(quiet(model)) == [*expected, "time_distributed"]
    assert f"(3,1) {' '.join(block)})x2" in model.name() and f"(:-1)) {' '.join(block)} TD(D)" in model.name()


def test_without_recurrent_layers_the_last_convolution_gets_the_one_block_before_the_dense_layer():
    model = RNNModel(CNNConfig(6, 3, 1, "same", 2), rnn_layers=0)
    assert layer_kinds(quiet(model)) == [
        *("conv1d_1", "relu", "DO(0.2)", "BN"),
        *("conv1d_2", "BN", "relu", "DO(0.2)"),
        "time_distributed",
    ]


@pytest.mark.parametrize("merge", list(BidirectionalMerge))
def test_only_the_first_recurrent_layer_is_bidirectional(merge):
    network = quiet(RNNModel(rnn_units=5, rnn_layers=3, bd_merge=merge))
    wrapped = [layer for layer in network.layers if isinstance(layer, keras.layers.Bidirectional)]
    assert [layer.name for layer in wrapped] == ["bd_rnn_1"] and wrapped[0].merge_mode == merge.value
    assert wrapped[0].output.shape[-1] == (10 if merge is BidirectionalMerge.concat else 5)
    assert network.get_layer("rnn_3").activation is keras.activations.tanh


@pytest.mark.parametrize(("dilation", "expected"), [(1, [1, 1, 1]), (3, [1, 3, 9]), (-2, [4, 2, 1])])
def test_dilation_is_a_base_whose_sign_gives_the_order(dilation, expected):
    network = quiet(RNNModel(CNNConfig(6, 3, 1, "valid", 3, dilation=dilation), rnn_units=5))
    assert [network.get_layer(f"conv1d_{number}").dilation_rate[0] for number in (1, 2, 3)] == expected


def test_dense_connections_join_the_part_s_input_and_all_earlier_outputs():
    model = RNNModel(CNNConfig(6, 3, 1, "same", 3, cnn_dense=True), rnn_units=5, rnn_layers=3, rnn_dense=True)
    network = quiet(model, 13)
    widths = [network.get_layer(f"conv1d_{number}").input.shape[-1] for number in (1, 2, 3)]
    assert widths == [13, 13 + 6, 13 + 6 + 6]
    widths = [network.get_layer(name).input.shape[-1] for name in ("bd_rnn_1", "rnn_2", "rnn_3", "time_distributed")]
    assert widths == [6, 6 + 10, 6 + 10 + 5, 5]


def test_without_the_dense_layer_the_blank_is_the_last_recurrent_unit():
    network = quiet(RNNModel(rnn_units=40, bd_merge=None, time_distributed_dense=False))
    assert network.output_shape == (None, None, 40) and layer_kinds(network) == ["rnn_1"]
    from vuilab.decoding.greedy import greedy_decode
    from vuilab.models.ctc import add_ctc_loss

    inputs = {
        "the_input": np.random.default_rng(0).normal(size=(2, 30, 13)).astype(np.float32),
        "the_labels": np.array([[3, 4, 5], [6, 7, 0]], np.int32),
        "input_length": np.array([30, 20], np.int32),
        "label_length": np.array([3, 2], np.int32),
    }
    losses = keras.ops.convert_to_numpy(add_ctc_loss(network)(inputs)["ctc"])
    assert np.isfinite(losses).all() and (losses > 0).all()
    path = np.eye(40)[[39, 2, 2, 39, 35, 3]]  # the blank is class 39; class 35 has no character
    assert greedy_decode(path) == "ab"


@pytest.mark.parametrize("border_mode", ["valid", "same", "causal"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, -3)])
def test_output_length_is_the_real_one(border_mode, stride, dilation):
    model = RNNModel(CNNConfig(4, 3, stride, border_mode, 3, dilation=dilation), rnn_layers=0)
    network = quiet(model, 2)
    for num_frames in (27, 28, 40, 61):
        real = network(np.zeros((1, num_frames, 2), np.float32)).shape[1]
        assert network.output_length(num_frames) == real


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: CNNConfig(cnn_layers=2, dilation=2), "stride and a dilation"),
        (lambda: CNNConfig(conv_stride=1, cnn_layers=2, cnn_dense=True), "equal length"),
        (lambda: CNNConfig(conv_border_mode="same", cnn_layers=2, cnn_dense=True), "conv_stride=2"),
        (lambda: CNNConfig(dilation=0), "other than 0"),
        (lambda: CNNConfig(kernel_size=0), "kernel_size"),
        (lambda: CNNConfig(cnn_layers=0), "cnn_layers"),
        (lambda: CNNConfig(cnn_dropout_rate=1), "cnn_dropout_rate"),
        (lambda: CNNConfig(conv_border_mode="full"), "conv_border_mode"),
        (lambda: RNNModel(rnn_layers=0), "needs convolutions"),
        (lambda: RNNModel(CNNConfig(), rnn_layers=0, rnn_dense=True), "rnn_dense"),
        (lambda: RNNModel(CNNConfig(), rnn_layers=0, time_distributed_dense=False), "needs a recurrent layer"),
        (lambda: RNNModel(rnn_units=0), "rnn_units"),
        (lambda: RNNModel(rnn_layers=True), "rnn_layers"),
        (lambda: RNNModel(dropout_rate=-0.1), "dropout_rate"),
        (lambda: RNNModel(rnn_type="Transformer"), "rnn_type"),
        (lambda: RNNModel(bd_merge="max"), "bd_merge"),
        (lambda: RNNModel({"filters": 3}), "cnn_config"),
        (lambda: RNNModel(rnn_units=20, bd_merge=None, time_distributed_dense=False).build(13), "alphabet needs 29"),
        (lambda: RNNModel().name("video"), "features"),
    ],
)
def test_impossible_combinations_are_refused_with_the_reason(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_cells_and_merges_may_be_given_by_name():
    assert RNNModel(rnn_type="LSTM", bd_merge="mul") == RNNModel(rnn_type=RNNType.LSTM, bd_merge=BidirectionalMerge.mul)
