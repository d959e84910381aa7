"""`vui data`: corpora made and indexed."""

from vuilab.cli import main
from vuilab.corpus.manifest import MANIFESTS, read_manifest


def test_data_demo_makes_the_corpus_and_leaves_it_when_it_is_there(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main.main(["data", "demo", "--out", str(out), "--scale", "tiny"]) == 0
    assert [len(read_manifest(out / name)) for name in MANIFESTS.values()] == [44, 6, 10]
    capsys.readouterr()
    assert main.main(["data", "demo", "--out", str(out), "--scale", "tiny"]) == 0
    assert "already there with these settings, nothing made" in capsys.readouterr().out


def test_data_demo_never_overwrites_a_users_folder(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("my own work")
    assert main.main(["data", "demo", "--out", str(tmp_path), "--scale", "tiny"]) == 1
    assert "is not a demo corpus" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir() if not item.name.startswith(".")] == ["mine.txt"]


def test_data_index_writes_manifests_with_the_speakers_asked_for(tiny_corpus, tmp_path, capsys):
    tree = tiny_corpus / "demo-train"
    speakers = sorted(path.name for path in tree.iterdir() if path.is_dir())
    out = tmp_path / "indexed"
    command = [
        "data",
        "index",
        str(tree),
        "--out",
        str(out),
        "--valid-speakers",
        speakers[0],
        "--test-speakers",
        speakers[1],
    ]
    assert main.main(command) == 0
    parts = {split: {item.speaker for item in read_manifest(out / name)} for split, name in MANIFESTS.items()}
    assert parts == {"validation": {speakers[0]}, "test": {speakers[1]}, "train": set(speakers[2:])}
    assert main.main(["data", "index", str(tmp_path / "none"), "--out", str(out)]) == 1
    assert "none" in capsys.readouterr().err
