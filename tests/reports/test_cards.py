"""What is released, in a few rows: each number is one of the records beside the weights."""

from vuilab.files import repository
from vuilab.reports.cards import summary_block
from vuilab.runs.record import read_record

RELEASED = repository() / "results" / "released"


def test_the_summary_holds_the_error_rates_of_the_records():
    block = summary_block(RELEASED)
    evaluation = read_record(RELEASED / "recogniser.json")["evaluation"]
    fused = evaluation["language_model"]
    for found in (evaluation["wer"], fused["wer"], fused["phonemes"]["wer"]):
        assert f"WER {100 * found['rate']:.1f} [" in block
    accuracy = read_record(RELEASED / "keywords_commands.json")["evaluation"]["accuracy"]["rate"]
    assert f"accuracy {100 * accuracy:.1f} [" in block and len(block.splitlines()) == 6
