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
    ("old", "new", "line", "reason"),
    [
        ("\\data\\\n", "hello\n", 1, "a count"),
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
