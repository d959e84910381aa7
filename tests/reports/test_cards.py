"""What is released, and its cards, say what the records hold, and nothing when something was not measured."""

import pytest
import scipy.stats

from vuilab.files import repository
from vuilab.reports.cards import keyword_card_block, summary_block
from vuilab.reports.ledger import check_project, update_pages
from vuilab.runs.record import read_record, write_json

RELEASED = repository() / "results" / "released"
MACHINE = {"clean": True, "commit": "fedcba9876543", "backend": "tensorflow", "machine": {"processor": "a processor"}}


def share(num_hits, num_cases):
    low, high = scipy.stats.binomtest(num_hits, num_cases).proportion_ci(0.95, "wilson")
    return {"rate": num_hits / num_cases, "low": low, "high": high}


def point(threshold, per_hour, num_hits):
    words = {"go": {"num_alarms": 3, "hours": 0.4}, "up": {"num_alarms": 1, "hours": 0.38}}
    alarms = {"per_hour": per_hour, "low": per_hour / 2, "high": 2 * per_hour, "words": words}
    return {"threshold": threshold, "false_alarms": alarms, "recall": share(num_hits, 150)}


@pytest.fixture
def record():
    noise = {"snr_db": [0.0, 20.0], "accuracy": {"white": [{"rate": 0.5}, {"rate": 0.9}], "brown": [{"rate": 0.7}] * 2}}
    evaluation = {
        "part": "validation",
        "num_clips": 200,
        "num_speakers": 75,
        "accuracy": share(180, 200),
        "recall": {"go": 0.81, "up": 0.95},
        "latency": {"total_ms": 5.25, "network_ms": 4.0},
        "noise": noise,
    }
    clips = {"num_clips": 150, "part": "validation", "snr_db": 20.0}
    return {
        "name": "spotter",
        "parameters": 75_783,
        "command": "python vui.py keywords train DIR",
        "commit": "0123456789ab",
        "clean": True,
        "backend": "tensorflow",
        "versions": {"keras": "3.15.1", "tensorflow": "2.20.0"},
        "configuration": {"seed": 0},
        "corpus": {"train": {"num_clips": 8081, "num_speakers": 569}},
        "evaluation": evaluation | MACHINE,
        "export": {
            "float32": {"num_bytes": 304_000, "accuracy": share(180, 200)},
            "int8": {"num_bytes": 116_400, "accuracy": share(181, 200)},
        }
        | MACHINE,
        "spotting": {"clips": clips, "points": [point(0.8, 17.6, 130), point(0.9, 9.0, 120), point(0.97, 0, 100)]}
        | MACHINE,
    }


def test_the_card_holds_the_numbers_of_the_record(record, tmp_path):
    write_json(tmp_path / "keywords.json", record)
    text = keyword_card_block(tmp_path / "keywords.json")
    facts = dict(line.strip("| ").split(" | ", 1) for line in text.split("\n\n")[0].splitlines()[2:])
    assert facts["trained with"] == "`python vui.py keywords train DIR` (commit 0123456, seed 0)"
    assert facts["training data"] == "8,081 clips of 569 speakers"
    assert facts["tested on"] == "200 validation clips of 75 other speakers"
    assert facts["accuracy % [95 %, Wilson]"] == "90.0 [85.1, 93.4]" and facts["least recognised"] == "go, 81 %"
    assert facts["the same with 8-bit integers (LiteRT)"].startswith("90.5 [")
    assert facts["size"] == "116 kB in int8 and 304 kB in float32"
    assert facts["one clip"] == "5.2 ms, network alone 4.0 ms (tensorflow, a processor, batch of one)"
    assert facts["recall counted on"] == "150 validation clips of go and up, placed among background noise at 20 dB"
    assert facts["false alarms counted in"] == "0.40 h of speech"
    assert "| white | 50.0 | 90.0 |" in text and "| noise | 0 dB | 20 dB |" in text
    assert "| 0.8 (default) | 17.6 [8.8, 35.2] | 86.7 [80.3, 91.2] |" in text and "| 0.97 | 0.0 [0.0, 0.0] |" in text
    assert "| 0.9 |" not in text


@pytest.mark.parametrize("part", ["evaluation", "export", "spotting"])
def test_what_was_not_measured_is_named_with_its_command(record, tmp_path, part):
    del record[part]
    write_json(tmp_path / "keywords.json", record)
    command = {"evaluation": "keywords evaluate", "export": "keywords export", "spotting": "spot --measure"}[part]
    with pytest.raises(ValueError, match=f"has no '{part}'. Measure it: python vui.py {command}"):
        keyword_card_block(tmp_path / "keywords.json")


def test_the_card_is_kept_true(record, tmp_path):
    (tmp_path / "README.md").write_text("<!-- spotter: results/keywords.json -->\n<!-- end spotter -->\n")
    (tmp_path / "results").mkdir()
    write_json(tmp_path / "results" / "keywords.json", record)
    assert update_pages(tmp_path) and check_project(tmp_path) == []
    record["spotting"]["clean"] = False
    record["evaluation"]["num_clips"] = 201
    record["export"]["command"] = "python vui.py keywords export data --out /somewhere/spotter.tflite --record"
    write_json(tmp_path / "results" / "keywords.json", record)
    assert check_project(tmp_path) == [
        "README.md differs from the records in results/keywords.json. Run: python vui.py compare --update",
        "results/spotter.json comes from uncommitted code; measure it again.",
        "results/spotter.json names a folder of one machine in its command; export it again with relative paths.",
    ]


def test_the_summary_holds_the_error_rates_of_the_records():
    block = summary_block(RELEASED)
    evaluation = read_record(RELEASED / "recogniser.json")["evaluation"]
    fused = evaluation["language_model"]
    for found in (evaluation["wer"], fused["wer"], fused["phonemes"]["wer"]):
        assert f"WER {100 * found['rate']:.1f} [" in block
    accuracy = read_record(RELEASED / "keywords_commands.json")["evaluation"]["accuracy"]["rate"]
    assert f"accuracy {100 * accuracy:.1f} [" in block and len(block.splitlines()) == 6
