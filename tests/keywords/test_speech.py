"""Running speech as unknown words: what is cut from where, and that nothing measured with changes."""

import numpy as np
import pytest
import soundfile

from vuilab.audio import read_audio
from vuilab.cli import main
from vuilab.corpus.manifest import Utterance, write_manifest
from vuilab.keywords.clips import load_part
from vuilab.keywords.corpus import PARTS, SPEECH, choose_clips, index_folder
from vuilab.keywords.speech import with_speech


@pytest.fixture
def dataset(noises):
    return choose_clips(index_folder(noises), ["brown", "violet", "unknown"])


@pytest.fixture
def speech(tmp_path):
    """Utterances of twelve speakers: each sample is 1 + the number of its utterance, in hundredths; two hold a label."""
    items = []
    for number in range(12):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, np.full(16_000 * (2 + number % 3), 0.01 * (1 + number)), 16_000)
        text = "the violet hour" if number < 2 else "violets are no label"
        items.append(Utterance(path, 2.0 + number % 3, text, str(number)))
    soundfile.write(tmp_path / "short.flac", np.zeros(16_000), 16_000)
    items.append(Utterance(tmp_path / "short.flac", 1.0, "too short", "20"))
    write_manifest(tmp_path / "speech.json", items)
    return tmp_path / "speech.json"


def test_stretches_of_utterances_without_a_label_become_unknown_clips_for_training(dataset, speech):
    more = with_speech(dataset, speech, 300)
    added = [clip for clip in more.clips if clip.word == SPEECH]
    assert len(added) == 300 and {clip.label for clip in added} == {"unknown"}
    assert {clip.speaker for clip in added} == {str(number) for number in range(2, 12)}
    assert {clip.part for clip in added} <= {"train", "development"}
    assert all(len({clip.part for clip in added if clip.speaker == speaker}) == 1 for speaker in {"2", "3", "11"})
    for part in ("validation", "testing"):
        assert more.part(part) == dataset.part(part)
    counts = [sum(clip.speaker == speaker for clip in added) for speaker in ("3", "5")]  # 2 s and 4 s, so 1 to 3
    assert 1.8 < counts[1] / counts[0] < 5
    assert with_speech(dataset, speech, 300) == more != with_speech(dataset, speech, 300, seed=1)
    assert more.fingerprint() != dataset.fingerprint()


def test_the_audio_of_a_stretch_is_that_of_its_utterance(dataset, speech):
    more = with_speech(dataset, speech, 50)
    audio = load_part(more, "train", progress=False)
    assert len(audio) == len(more.part("train")) and not audio.skipped
    for number, clip in enumerate(audio.clips):
        if clip.word == SPEECH:
            whole = read_audio(more.folder / clip.key)
            found = audio.samples([number])[0]
            np.testing.assert_allclose(found, whole[clip.start : clip.start + 16_000], atol=1e-4)
            assert clip.start + 16_000 <= len(whole)
    assert sorted(audio.targets.tolist()).count(2) == sum(clip.label == "unknown" for clip in more.part("train"))
    assert set(PARTS) >= {clip.part for clip in more.clips}


def test_a_linked_corpus_finds_the_utterances_too(noises, speech, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    link = tmp_path / "deep" / "er" / "link"
    link.symlink_to(noises, target_is_directory=True)
    more = with_speech(choose_clips(index_folder(link), ["brown", "violet", "unknown"]), speech, 3)
    assert len(load_part(more, "train", progress=False)) == len(more.part("train"))


def test_what_cannot_be_is_refused(noises, dataset, speech, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"for the label 'unknown'.*labels brown violet white"):
        with_speech(choose_clips(index_folder(noises)), speech, 5)
    with pytest.raises(ValueError, match="num_clips=0"):
        with_speech(dataset, speech, 0)
    write_manifest(tmp_path / "label.json", [Utterance(tmp_path / "2.flac", 4.0, "a brown fox", "2")])
    with pytest.raises(ValueError, match="none of the labels"):
        with_speech(dataset, tmp_path / "label.json", 5)
    command = ["keywords", "train", str(noises), "--words", "brown", "violet", "unknown", "--speech", "none.json"]
    assert main.main(command) == 1
    assert "No manifest at none.json" in capsys.readouterr().err
