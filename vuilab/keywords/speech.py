"""Running speech as 'unknown': what a spotter hears all day, cut into seconds.

Clips of single words do not teach a network what words sound like inside sentences, cut anywhere. Stretches of transcribed
utterances that hold none of the labels do.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from vuilab.audio import SAMPLE_RATE
from vuilab.corpus import manifest as corpora
from vuilab.keywords.corpus import CLIP_SAMPLES, SPEECH, UNKNOWN, Clip, Dataset, is_development

SHORTEST = 1.1  # seconds of an utterance that stretches are cut from


def with_speech(dataset: Dataset, manifest: str | Path, num_clips: int, seed: int = 0) -> Dataset:
    """Return the dataset with stretches of running speech among the unknown clips of 'train' and 'development'.

    A speaker belongs to one of the two parts. Validation and testing stay as they are, so that accuracies compare.

    Args:
        dataset: with the label 'unknown'.
        manifest: of transcribed speech; utterances that hold a label, or whose speaker is not known, take no part.
        num_clips: so many stretches of one second in all, drawn uniformly over the time.
        seed: of the choice.

    Raises:
        ValueError: without the label 'unknown', without usable utterances, or for fewer than 1 clips.
        FileNotFoundError: when there is no such manifest.
    """
    if UNKNOWN not in dataset.labels or num_clips < 1:
        raise ValueError(
            "Running speech is for the label 'unknown', at least 1 clip of it. Received: labels "
            f"{' '.join(dataset.labels)}, num_clips={num_clips}. Put unknown among the words, or take the challenge's."
        )
    words = set(dataset.labels)
    usable = [
        item
        for item in corpora.read_manifest(manifest)
        if item.speaker is not None and item.duration >= SHORTEST and not words & set(item.text.split())
    ]
    if not usable:
        raise ValueError(
            f"No utterance in {manifest} has a known speaker, {SHORTEST} s, and none of the labels. Name another manifest."
        )
    rng = np.random.default_rng([seed, 21])
    durations = np.array([item.duration - 1 for item in usable])
    clips = []
    for index in rng.choice(len(usable), num_clips, p=durations / durations.sum()):
        item = usable[index]
        start = int(rng.integers(0, int(item.duration * SAMPLE_RATE) - CLIP_SAMPLES))
        part = "development" if is_development(item.speaker) else "train"
        # both resolved: '..' leads out of a linked folder to where the link points
        key = Path(os.path.relpath(item.path.resolve(), dataset.folder.resolve())).as_posix()
        clips.append(Clip(UNKNOWN, SPEECH, part, item.speaker, key, start))
    return dataclasses.replace(dataset, clips=(*dataset.clips, *clips))
