"""PyTorch's own layers in the same architectures: the peer that this project is compared with.

Written as fast as plain PyTorch goes: recurrent layers run over (num_frames, batch, features), the layout that they, batch
normalisation over all frames and `ctc_loss` take without copies; convolutions run over (batch, channels, num_frames). The
loss has true lengths, gradients are set to None between steps, and as many threads run as the process has cores.
"""

import os

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.workloads import (
    CLIP_NORM,
    DILATIONS,
    LEARNING_RATE,
    MOMENTUM,
    NUM_CLASSES,
    NUM_FEATURES,
    WAVENET_KERNEL,
    Part,
    output_length,
)

BLANK = NUM_CLASSES - 1


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Recurrent(nn.Module):
    """A recurrent layer: (num_frames, batch, features) -> (num_frames, batch, units)."""

    def __init__(self, kind: str, num_inputs: int, units: int):
        super().__init__()
        layer = nn.RNN if kind == "simple_rnn" else nn.GRU
        self.layer = layer(num_inputs, units, bidirectional=kind == "bigru")
        self.width = units * (2 if kind == "bigru" else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs of all frames."""
        return self.layer(x)[0]


class Norm(nn.Module):
    """Batch normalisation over all frames of the batch, with Keras' constants: shape kept."""

    def __init__(self, num_inputs: int):
        super().__init__()
        self.layer = nn.BatchNorm1d(num_inputs, eps=1e-3, momentum=0.01)
        self.width = num_inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (num_frames, batch, features)."""
        return self.layer(x.flatten(0, 1)).view(x.shape)


class Convolution(nn.Module):
    """A strided convolution with ReLU: (num_frames, batch, features) -> (num_output_frames, batch, filters)."""

    def __init__(self, num_inputs: int, part: Part):
        super().__init__()
        self.layer = nn.Conv1d(num_inputs, part.size, part.kernel, stride=part.stride)
        self.width = part.size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve along the frames."""
        return self.layer(x.permute(1, 2, 0)).relu().permute(2, 0, 1).contiguous()


class GatedBlock(nn.Module):
    """A gated dilated causal block: (batch, filters, num_frames) -> its skip tensor, of the same shape."""

    def __init__(self, filters: int, dilation: int):
        super().__init__()
        self.padding = (WAVENET_KERNEL - 1) * dilation
        self.tanh = nn.Conv1d(filters, filters, WAVENET_KERNEL, dilation=dilation)
        self.sigmoid = nn.Conv1d(filters, filters, WAVENET_KERNEL, dilation=dilation)
        self.out = nn.Conv1d(filters, filters, 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters, eps=1e-3, momentum=0.01) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the skip tensor."""
        x = functional.pad(x, (self.padding, 0))
        gated = self.norms[0](self.tanh(x).tanh()) * self.norms[1](self.sigmoid(x).sigmoid())
        return self.norms[2](self.out(gated))


class WaveNet(nn.Module):
    """Front, groups of gated blocks, sum of the skips, 1x1 convolution: (num_frames, batch, features) as in and out."""

    def __init__(self, num_inputs: int, part: Part):
        super().__init__()
        self.front = nn.Conv1d(num_inputs, part.size, 1)
        self.head = nn.Conv1d(part.size, part.size, 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(part.size, eps=1e-3, momentum=0.01) for _ in range(2))
        self.blocks = nn.ModuleList(GatedBlock(part.size, dilation) for dilation in DILATIONS * part.groups)
        self.width = part.size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the stack; no residual follows the last block."""
        x = self.norms[0](self.front(x.permute(1, 2, 0)))
        total = 0
        for number, block in enumerate(self.blocks):
            skip = block(x)
            total = total + skip
            if number + 1 < len(self.blocks):
                x = x + skip
        return self.norms[1](self.head(total.relu()).relu()).permute(2, 0, 1).contiguous()


def build(parts: tuple[Part, ...]) -> nn.Sequential:
    """Build an architecture from features (num_frames, batch, 161) to logits (num_output_frames, batch, 29).

    Raises:
        ValueError: for an unknown kind of part.
    """
    modules, width = [], NUM_FEATURES
    for part in parts:
        if part.kind in ("gru", "bigru", "simple_rnn"):
            modules.append(Recurrent(part.kind, width, part.size))
        elif part.kind == "bn":
            modules.append(Norm(width))
        elif part.kind == "conv":
            modules.append(Convolution(width, part))
        elif part.kind == "wavenet":
            modules.append(WaveNet(width, part))
        elif part.kind == "dense":
            modules.append(nn.Linear(width, part.size))
        else:
            raise ValueError(f"Unknown kind of part. Received: {part}")
        width = getattr(modules[-1], "width", part.size)
    return nn.Sequential(*modules)


class TorchPeer:
    """Trains an architecture with PyTorch.

    Args:
        parts: the architecture.
    """

    def __init__(self, parts: tuple[Part, ...]):
        torch.set_num_threads(num_cores())
        torch.manual_seed(0)
        self.parts = parts
        self.model = build(parts).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def step(self, batch: dict[str, np.ndarray]) -> float:
        """Train on one batch and return the mean loss in nats per utterance."""
        self.optimizer.zero_grad(set_to_none=True)
        features = torch.from_numpy(batch["the_input"]).transpose(0, 1)  # a view: (num_frames, batch, features)
        log_probabilities = functional.log_softmax(self.model(features), dim=-1)
        losses = functional.ctc_loss(
            log_probabilities,
            torch.from_numpy(batch["the_labels"]).long(),
            torch.from_numpy(output_length(self.parts, batch["input_length"])).long(),
            torch.from_numpy(batch["label_length"]).long(),
            blank=BLANK,
            reduction="none",
        )
        loss = losses.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return loss.item()
