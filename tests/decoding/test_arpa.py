"""ARPA files of other tools, and the line that is wrong in a broken one."""

import gzip
import math

import pytest

from vuilab.decoding.language_model import load_language_model

GOOD = """\\data\\
ngram 1=4
ngram 2=3

\\1-grams:
-99\t<s>\t-0.30103
-0.60206\t</s>
-0.60206\t<unk>
-0.30103\tno\t-0.1

\\2-grams:
-0.2\t<s> no
-0.4\tno no
-0.5\tno </s>

\\end\\
"""


def test_an_arpa_file_of_another_tool_is_read(tmp_path):
    path = tmp_path / "other.arpa"
    path.write_text(GOOD)
    model = load_language_model(path)
    expected = [-0.2, -0.4, -0.5]
    assert model.sentence_scores("no no") == pytest.approx([value * math.log(10) for value in expected], abs=1e-5)
    assert model.score("zebra", model.begin_state)[0] == pytest.approx((-0.30103 - 0.60206) * math.log(10), abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda text: "\ufeff" + text,
        lambda text: "A model of the weather,\nmade in 1999.\n\n" + text,
        lambda text: text.replace("ngram 1=4", "ngram   1 = 4").replace("\n", "\r\n"),
    ],
)
def test_capitals_marks_and_text_before_it_change_nothing(change, tmp_path, capsys):
    (tmp_path / "plain.arpa").write_text(GOOD)
    (tmp_path / "other.arpa").write_text(change(GOOD), encoding="utf-8", newline="")
    plain, other = (load_language_model(tmp_path / f"{name}.arpa") for name in ("plain", "other"))
    assert other.words == plain.words == ["<unk>", "<s>", "</s>", "no"]
    assert other.sentence_scores("no no zebra") == plain.sentence_scores("no no zebra")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("word", ["日", "well-known", "<noise>", "3,5", "x\u00a0y", "caf\udce9"])
def test_words_that_cannot_be_spelt_are_left_out_and_counted(word, tmp_path, capsys):
    text = GOOD.replace("1=4", "1=5").replace("2=3", "2=5")
    text = text.replace("no\t-0.1\n", f"no\t-0.1\n-1\t{word}\t-0.2\n")
    text = text.replace("-0.5\tno </s>\n", f"-0.5\tno </s>\n-0.3\t{word} no\n-0.1\tno {word}\n")
    (tmp_path / "plain.arpa").write_text(GOOD)
    (tmp_path / "other.arpa").write_text(text, encoding="utf-8", errors="surrogateescape")
    plain, other = (load_language_model(tmp_path / f"{name}.arpa") for name in ("plain", "other"))
    assert other.words == plain.words and other.num_ngrams == plain.num_ngrams
    assert other.sentence_scores("no no zebra") == plain.sentence_scores("no no zebra")
    assert "other.arpa: 1 of 5 words left out" in capsys.readouterr().err


def test_of_a_word_in_two_spellings_the_likelier_counts(tmp_path):
    text = GOOD.replace("1=4", "1=6").replace("2=3", "2=4")
    text = text.replace("no\t-0.1\n", "no\t-0.1\n-0.2\tNo\t-0.3\n-2\tnó\t-0.9\n").replace(
        "<s> no\n", "<s> no\n-0.1\t<s> No\n"
    )
    (tmp_path / "two.arpa").write_text(text, encoding="utf-8")
    model = load_language_model(tmp_path / "two.arpa")
    assert model.words == ["<unk>", "<s>", "</s>", "no"] and model.num_ngrams == [4, 3]
    assert model.score("no", 0)[0] == pytest.approx(-0.2 * math.log(10))
    assert model.score("no", model.begin_state)[0] == pytest.approx(-0.1 * math.log(10))


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("\\data\\\n", "hello\n", 16, "stands nowhere"),
        ("ngram 1=4", "hello", 2, "a count"),
        ("ngram 2=3", "ngram 3=3", 3, "orders 1, 2"),
        ("ngram 1=4", "ngram 1=5", 11, "promises 5 1-grams, there are 4"),
        ("ngram 2=3", "ngram 2=2", 14, "more 2-grams than the 2"),
        ("-0.4\tno no", "-0.4\tno maybe", 13, "'maybe' is not among the unigrams"),
        ("-0.4\tno no", "minus\tno no", 13, "could not convert"),
        ("-0.4\tno no", "-0.4\tno", 13, "2 words"),
        ("-0.60206\t<unk>", "-0.60206\tno", 9, "stands twice"),
        ("\\2-grams:", "\\3-grams:", 11, r"2-grams: should stand here"),
        ("\\end\\\n", "", 15, "should follow"),
        ("-0.4\tno no", "0.4\tno no", 16, "over 1"),
    ],
)
def test_a_broken_line_is_named(old, new, line, reason, tmp_path):
    path = tmp_path / "broken.arpa"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=reason) as caught:
        load_language_model(path)
    assert f"broken.arpa, line {line}:" in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    (tmp_path / "cut.arpa.gz").write_bytes(gzip.compress(GOOD.encode())[:-20])
    with pytest.raises(ValueError, match="line"):
        load_language_model(tmp_path / "cut.arpa.gz")
