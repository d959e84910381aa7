"""`vui.py spot`: files, live sound and measuring, with the network's place taken by one that hears loudness."""

import json

import numpy as np
import pytest
import soundfile

from vuilab import files
from vuilab.cli import main
from vuilab.corpus.manifest import Utterance, write_manifest
from vuilab.keywords import scores
from vuilab.runs.record import write_json

RATE = 16_000


class Loud:
    """Hears 'bed' in whatever is loud in the middle of the window."""

    labels = ("bed", "silence", "unknown")
    metadata = {"train_speakers": []}  # noqa: RUF012

    def probabilities(self, waveforms):
        found = np.zeros((len(waveforms), len(self.labels)), np.float32)
        found[:, 0] = np.sqrt(np.mean(np.square(waveforms[:, 4000:12000]), axis=1)) > 0.05
        return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scores, "load_classifier", lambda path, **_: Loud())
    samples = np.full(4 * RATE, 0.001)
    samples[2 * RATE : 5 * RATE // 2] = 0.4
    soundfile.write("long.wav", samples, RATE)
    (tmp_path / "text.wav").write_text("no audio")
    return tmp_path


def test_files_give_events_and_unreadable_ones_are_listed(folder, capsys):
    assert main.main(["spot", "long.wav", "text.wav", "none.wav", "--model", "m.h5"]) == 3
    out, err = capsys.readouterr()
    assert out == "long.wav: 1 word found\n     2.25 s  bed        1.00\n"
    assert "Skipped text.wav: Cannot read text.wav as audio" in err and "Skipped none.wav: No audio file" in err
    assert main.main(["spot", "text.wav", "none.wav", "--model", "m.h5"]) == 1


def test_json_is_versioned_and_holds_settings_and_skipped_files(folder, capsys):
    arguments = ["--json", "--threshold", "0.6", "--smoothing", "1", "--model", "m.h5"]
    assert main.main(["spot", "long.wav", "none.wav", *arguments]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1 and found["labels"] == ["bed", "silence", "unknown"] and found["warning"] is None
    assert found["settings"] == {"threshold": 0.6, "hop": 0.1, "smoothing": 1, "refractory": 0.5}
    (event,) = found["results"][0]["events"]
    assert event["word"] == "bed" and event["time"] == pytest.approx(2.25, abs=0.1) and event["score"] == 1
    assert event["end"] - event["start"] == pytest.approx(1)
    assert found["skipped"][0]["file"] == "none.wav"


def test_live_finds_what_a_file_says_in_the_microphones_place(folder, capsys):
    assert main.main(["spot", "--live", "--from", "long.wav", "--fast", "--model", "m.h5"]) == 0
    assert capsys.readouterr() == ("     2.25 s  bed        1.00\n", "")
    arguments = ["spot", "--live", "--from", "long.wav", "--fast", "--seconds", "1", "--model", "m.h5"]
    assert main.main([*arguments, "--json"]) == 0
    assert capsys.readouterr() == ("", "No word was found.\n")


def test_live_ends_with_what_was_heard_before_ctrl_c(folder, capsys, monkeypatch):
    def chunks(options):
        yield np.full(RATE, 0.4)
        raise KeyboardInterrupt

    monkeypatch.setattr("vuilab.cli.spot.live_chunks", chunks)
    assert main.main(["spot", "--live", "--json", "--model", "m.h5"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["word"] == "bed" and err == "Listening. Ctrl-C ends.\n"


def test_measuring_gives_a_curve_of_recall_against_false_alarms(folder, spoken_words, capsys):
    soundfile.write("same.wav", soundfile.read("long.wav")[0], RATE)
    soundfile.write("quiet.wav", np.full(36 * RATE, 0.001), RATE)
    write_manifest(
        "speech.json",
        [
            Utterance(folder / "long.wav", 4.0, "well"),
            Utterance(folder / "same.wav", 4.0, "to bed"),
            Utterance(folder / "quiet.wav", 36.0, "hush"),
            Utterance(folder / "gone.wav", 36.0, "hush"),
        ],
    )
    arguments = ["spot", "--measure", "speech.json", "--clips", str(spoken_words), "--part", "validation"]
    assert main.main([*arguments, "--model", "m.h5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = {point["threshold"]: point["false_alarms"]["per_hour"] for point in found["points"]}
    assert rates[0.8] == pytest.approx(3600 / 40)  # the utterance with the word does not count
    assert found["clips"]["num_clips"] == 4 and found["clips"]["part"] == "validation"
    assert all(0 <= point["recall"]["rate"] <= 1 for point in found["points"])
    assert found["chosen"] is None and "gone.wav" in found["skipped"][0]
    assert main.main([*arguments, "--model", "m.h5", "--record"]) == 1
    assert "there is none at m.json" in capsys.readouterr().err
    write_json("m.json", {"name": "m"})
    assert main.main([*arguments, "--model", "m.h5", "--record"]) == 0
    recorded = json.loads((folder / "m.json").read_text())["spotting"]
    assert recorded["points"] == found["points"] and recorded["commit"] and recorded["versions"]
    capsys.readouterr()
    assert main.main([*arguments, "--model", "m.h5", "--threshold", "0.7"]) == 0
    text = capsys.readouterr().out
    assert "0.01 hours of speech" in text and "threshold 0.700   90.00 [2.28, 501.45] false alarms per hour" in text
    assert "bed           1 false alarms in 0.01 h   recall" in text and "long.wav: well" in text


def test_a_classifier_of_words_alone_is_warned_about(folder, capsys, monkeypatch):
    monkeypatch.setattr(Loud, "labels", ("bed", "cat"))
    assert main.main(["spot", "long.wav", "--model", "m.h5", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("Warning: The classifier has no label 'unknown' or 'silence'")
    assert json.loads(out)["warning"] in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name what to search: FILE ..., or --live, or --measure MANIFEST; one of them."),
        (["long.wav", "--record"], "--record keeps what --measure MANIFEST found"),
        (["long.wav", "--live"], "one of them."),
        (["long.wav", "--threshold", "2"], "threshold must be above 0 and at most 1. Received: threshold=2.0"),
        (["long.wav", "--from", "long.wav"], "--from FILE stands in for the microphone: it goes with --live."),
        (["--live", "--fast"], "--fast goes with --from FILE"),
        (["--live", "--from", "none.wav"], "No audio file at none.wav"),
        (["--measure", "none.json"], "none.json"),
        (["long.wav"], "no released weights keywords*.h5 in"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(files, "released_folder", lambda: folder / "nothing")
    assert main.main(["spot", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Error: ") and message in err
    assert "no released" not in err or "python vui.py keywords train DIR" in err
