"""Do this project and the PyTorch peer train the same thing? Same weights, same batches: the losses must agree step by step.

    python -m benchmarks.check_peers

Copies the weights of this project's models into their PyTorch peers and trains both on small batches. Agreement over several
steps covers the layers, the loss with true lengths, the optimiser and the clipping. The WaveNet is compared by its number of
parameters only (`bench_training.py` does that for every model).
"""

import argparse

import numpy as np
import torch

from benchmarks.harness import say
from benchmarks.peers_torch import Convolution, Norm, Recurrent, TorchPeer
from benchmarks.training_worker import ProjectPeer
from benchmarks.workloads import MODELS, Workload

NUM_STEPS = 4
TOLERANCE = 2e-3  # relative; rounding grows from step to step


def copy_weights(project: ProjectPeer, peer: TorchPeer) -> None:
    """Copy the weights layer by layer."""
    layers = [layer for layer in project.trainer.layers if layer.weights]
    with torch.no_grad():
        for module, layer in zip(peer.model, layers, strict=True):
            weights = layer.get_weights()
            if isinstance(module, Recurrent):
                copy_recurrent(module.layer, weights[:3], "")
                if len(weights) == 6:
                    copy_recurrent(module.layer, weights[3:], "_reverse")
                continue
            target = module.layer if isinstance(module, (Convolution, Norm)) else module
            axes = range(weights[0].ndim)[::-1]  # Keras has inputs before outputs, PyTorch outputs before inputs
            target.weight.copy_(torch.from_numpy(weights[0].transpose(*axes).copy()))
            target.bias.copy_(torch.from_numpy(weights[1]))


def copy_recurrent(layer: torch.nn.RNNBase, weights: list[np.ndarray], suffix: str) -> None:
    """Copy one direction; a GRU's gates stand in another order, and a simple layer has one bias in Keras and two in PyTorch."""
    kernel, recurrent, bias = weights
    biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    arrays = [kernel.T, recurrent.T, biases[0], biases[1]]
    if isinstance(layer, torch.nn.GRU):  # update, reset, candidate -> reset, update, candidate
        arrays = [np.concatenate([np.split(array, 3)[gate] for gate in (1, 0, 2)]) for array in arrays]
    for name, array in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), arrays, strict=True):
        getattr(layer, f"{name}_l0{suffix}").copy_(torch.from_numpy(np.ascontiguousarray(array)))


def main() -> None:
    """Compare every model but the WaveNet; the exit status is 1 when one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[name for name in MODELS if name != "wavenet_2x64"])
    options = parser.parse_args()
    batches = Workload(3, 60).batches(NUM_STEPS)
    different = []
    for name in options.models:
        project, peer = ProjectPeer(name), TorchPeer(MODELS[name])
        copy_weights(project, peer)
        ours = [project.step(batch) for batch in batches]
        theirs = [peer.step(batch) for batch in batches]
        same = np.allclose(ours, theirs, rtol=TOLERANCE)
        shown = ", ".join(f"{own:.3f} {their:.3f}" for own, their in zip(ours, theirs, strict=True))
        say(f"{name}: {'the same' if same else 'DIFFERENT'}; losses here and in PyTorch: {shown}")
        different += [] if same else [name]
    if different:
        raise SystemExit(f"PyTorch peers must give the same losses. They differ for: {', '.join(different)}")


if __name__ == "__main__":
    main()
