"""Recognising speech as a task of `fit`: an acoustic model on a corpus, trained with CTC, validated by error rates."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vuilab.alphabet import ENGLISH, using
from vuilab.corpus.manifest import MANIFESTS, summarize
from vuilab.data.feature_cache import cache_bytes, is_cached
from vuilab.data.generator import BatchGenerator
from vuilab.decoding.greedy import greedy_decode
from vuilab.models.acoustic import output_length
from vuilab.models.ctc import add_ctc_loss, mean_loss, needs_phonemes
from vuilab.runs.record import file_hash
from vuilab.scoring.error_rates import score
from vuilab.training.options import OptimizerOptions
from vuilab.training.sharing import predict_step
from vuilab.training.task import Say, Task

LARGE_CACHE = 1e8  # bytes; what takes less needs no word
NAMED = 5  # so many utterances that take no part are named


class Recognition(Task):
    """An acoustic model with its corpus and files; the arguments are those of `Task`.

    The model maps features (batch, num_frames, num_features) to probabilities (batch, num_output_frames, num_classes). The
    generator may be shared by several tasks; a partition that it has not loaded is that of the active corpus. The default
    optimiser is SGD with learning rate 0.02, Nesterov momentum 0.9 and `global_clipnorm=5`.

    Raises:
        ValueError: for features that do not fit the model, or data that cannot be used.
        FileNotFoundError: when a manifest is missing.
    """

    generator: BatchGenerator

    def check(self) -> None:
        """Take a copy of the generator, since this task leaves out utterances of its own, and load what is missing."""
        width, settings = self.model.input_shape[-1], self.generator.settings
        if width != settings.num_features:
            raise ValueError(
                f"The model takes {width} features per frame and {settings.kind} features have {settings.num_features}. Build "
                f"the model with input_dim={settings.num_features}, or choose other features."
            )
        classes, needed = self.model.output_shape[-1], len(self.generator.alphabet) + 1
        if classes < needed:
            raise ValueError(
                f"The model has {classes} classes; the alphabet and the blank are {needed}. Build it with output_dim={needed}."
            )
        self.generator = self.generator.copy()
        for partition in ("train", "validation"):
            if partition not in self.generator.partitions:
                self.generator.load(partition, MANIFESTS[partition])
        self.generator.phonemes = needs_phonemes(self.model)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Return SGD as the references had it."""
        return OptimizerOptions().build()

    def configuration(self) -> dict[str, Any]:
        """Return features, data, and how batches are made."""
        return {
            "features": self.generator.settings.relevant(),
            **{name: file_hash(self.generator.partitions[name].manifest) for name in ("train", "validation")},
            **self.generator.options.relevant(),
            **({} if self.generator.alphabet == ENGLISH else {"alphabet": self.generator.alphabet}),
        }

    def contents(self) -> dict[str, str | None]:
        """Return the hash of the recordings of both sets."""
        return {name: self.generator.partitions[name].contents for name in ("train", "validation")}

    def prepare(self, say: Say, progress: bool) -> None:
        """Leave out what cannot take part, and measure the feature statistics."""
        generator = self.generator
        generator.progress = progress
        self._announce_features(say)
        for partition in ("train", "validation"):
            dropped = generator.drop_infeasible(partition, self._output_length)
            if dropped:
                more = f" ... and {len(dropped) - NAMED} more" if len(dropped) > NAMED else ""
                lines = "\n  ".join(dropped[:NAMED]) + more
                say(f"Left out of {partition}, since CTC cannot align them:\n  {lines}")
            if generator.left_out[partition]:
                say(
                    f"{generator.left_out[partition]} {partition} utterances are longer than "
                    f"{generator.options.max_duration} s and take no part."
                    + (" (vui.py evaluate scores all of them.)" if partition == "validation" else "")
                )
        if not generator.has_statistics:
            generator.fit_train()

    def training_model(self, options: Any) -> tuple[keras.Model, Any]:
        """Return the model with the CTC loss of each utterance on top, and their mean."""
        return add_ctc_loss(self.model), mean_loss

    def evaluator(self, trainer: keras.Model) -> keras.Model:
        """Return a model that gives losses and probabilities in one pass."""
        outputs = {"ctc": trainer.get_layer("ctc").output, "probabilities": self.model.outputs[0]}
        return keras.Model(trainer.inputs, outputs)

    def validate(self, evaluator: keras.Model) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the loss and the error rates of greedy transcripts of the validation set, and the scores in full."""
        utterances = self.generator.partitions["validation"].utterances
        losses, texts = np.zeros(len(utterances)), [""] * len(utterances)
        for indices in self.generator.plan("validation"):
            inputs, _ = self.generator.assemble("validation", indices)
            outputs = predict_step(evaluator, inputs)
            losses[indices] = np.asarray(outputs["ctc"])
            lengths = self._output_length(inputs["input_length"])
            for index, row, length in zip(indices, np.asarray(outputs["probabilities"]), lengths, strict=True):
                with using(self.generator.alphabet):
                    texts[index] = greedy_decode(row, int(length)) if np.isfinite(row).all() else ""
        result = score([u.text for u in utterances], texts, [u.speaker for u in utterances])
        logs = {"val_loss": float(losses.mean()), "val_cer": result.cer.rate, "val_wer": result.wer.rate}
        return logs, result.as_dict()

    def describe(self, logs: dict[str, float]) -> str:
        """Return losses (nats per utterance) and error rates."""
        return (
            f"loss {logs['loss']:7.2f}  val_loss {logs['val_loss']:7.2f}  val_cer {100 * logs['val_cer']:5.1f} %  "
            f"val_wer {100 * logs['val_wer']:5.1f} %"
        )

    def metadata(self) -> dict[str, Any]:
        """Return alphabet, features with their statistics, and whose voices were learnt."""
        return {
            "alphabet": self.generator.alphabet,
            "features": dataclasses.asdict(self.generator.settings),
            "mean": self.generator.feats_mean.tolist(),
            "std": self.generator.feats_std.tolist(),
            "train_speakers": summarize(self.generator.partitions["train"].utterances)["speakers"],
        }

    def corpus(self) -> dict[str, Any]:
        """Return manifest, hours, utterances and speakers of both sets."""
        parts = self.generator.partitions
        return {
            partition: {"manifest": _short(parts[partition].manifest), **summarize(parts[partition].utterances)}
            for partition in ("train", "validation")
        }

    def size_of(self, hours: float) -> tuple[float, float]:
        """Return frames, at every speed, and bytes of their cache."""
        settings, seconds = self.generator.settings, 3600 * hours
        speeds = len(self.generator.options.speeds)
        return speeds * seconds * settings.frames_per_second, speeds * cache_bytes(seconds, settings)

    def _output_length(self, input_length: Any) -> Any:
        """Return output frames for feature frames: the model's own function, or derived from its layers."""
        own = getattr(self.model, "output_length", None)
        return own(input_length) if own else output_length(self.model, input_length)

    def _announce_features(self, say: Say) -> None:
        """Say how much disk the features will take, before they are computed (they are refused where the disk is short)."""
        settings = self.generator.settings
        parts = [
            part
            for part in self.generator.partitions.values()
            if not is_cached(part.manifest, settings, list(dict.fromkeys(u.speed for u in part.everything)))
        ]
        seconds = sum(utterance.duration for part in parts for utterance in part.everything)
        needed = cache_bytes(seconds, settings)
        if needed > LARGE_CACHE:
            free = shutil.disk_usage(parts[0].manifest.parent).free
            say(
                f"Features of {seconds / 3600:.1f} h of speech are computed once and take {needed / 1e9:.1f} GB of disk "
                f"({free / 1e9:.0f} GB are free)."
            )


def _short(path: Path) -> str:
    """Return a path relative to the current folder where possible, so that records name no machine."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
