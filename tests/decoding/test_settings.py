"""Which decoder is used with what weights: what is asked for comes before what was tuned, and that before the defaults."""

import subprocess
import sys
from pathlib import Path

import pytest

from vuilab.decoding.settings import HOT_WORD_BONUS, BeamSettings, Decoding, SoundWeights, TunedLanguageModel

TUNED = TunedLanguageModel(Path("tuned.npz"), {"alpha": 0.7, "beta": 3.0}, {"phonemes": 0.4, "alpha": 0.6, "beta": 2.0})


def test_without_tuned_weights_the_defaults_of_the_search_hold():
    plain = Decoding()
    assert (plain.beam, plain.sounds, plain.bonuses) == (BeamSettings(), SoundWeights(), {})
    asked = Decoding(alpha=0.0, beta=-1.0, phonemes=0.0, beam_width=7, hot_words=("basket",))
    assert asked.beam == BeamSettings(beam_width=7, alpha=0.0, beta=-1.0)
    assert asked.sounds == SoundWeights(0.0, 0.0, -1.0) and asked.bonuses == {"basket": HOT_WORD_BONUS}


def test_tuned_weights_hold_where_nothing_is_asked_for():
    tuned = Decoding(alpha=1.5).with_tuned(TUNED)
    assert tuned.lm == Path("tuned.npz")
    assert tuned.beam == BeamSettings(alpha=1.5, beta=3.0) and tuned.sounds == SoundWeights(0.4, 1.5, 2.0)
    letters_alone = Decoding().with_tuned(TUNED._replace(sounds=None))
    assert letters_alone.sounds == SoundWeights(0.5, 0.7, 3.0)


def test_another_language_model_or_greedy_decoding_leaves_the_tuned_one_out():
    for asked in (Decoding(lm=Path("mine.npz")), Decoding(greedy=True)):
        assert asked.with_tuned(TUNED) == asked
    assert Decoding().with_tuned(None) == Decoding()


@pytest.mark.parametrize("more", [{"lm": Path("mine.npz")}, {"hot_words": ("basket",)}])
def test_greedy_decoding_and_more_than_that_exclude_each_other(more):
    with pytest.raises(ValueError, match="--greedy decodes without --lm and --hot-words"):
        Decoding(greedy=True, **more)


def test_settings_load_neither_a_backend_nor_a_compiler():
    code = "import sys, vuilab.decoding.settings; print({'numba', 'keras', 'tensorflow', 'jax'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert found.stdout.strip() == "set()"


def test_hot_words_are_normalised_and_terms_count_by_their_long_words():
    found = Decoding(hot_words=("Zürich", "  Bank of England", "O’Brien", "Bo Li", "NASA")).bonuses
    assert list(found) == ["zurich", "bank", "england", "o'brien", "bo", "li", "nasa"]
    for term in ("東京", " ", "..."):
        with pytest.raises(ValueError, match=f"hot word.*Received: {term!r}"):
            _ = Decoding(hot_words=(term,)).bonuses
