"""Settings: where they come from, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixeldetective.errors import UsageError
from pixeldetective.settings import load


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "pixd.toml").write_text('batch_size = 5\nupsert_batch_size = 6\nextensions = ["jpg"]\nhidden = true\n')
    settings = load({"PIXD_HOME": str(tmp_path), "PIXD_BATCH_SIZE": "7", "PIXD_IGNORE": "a, b"})
    assert (settings.batch_size, settings.upsert_batch_size, settings.partitions) == (7, 6, 8)
    assert (settings.extensions, settings.ignore, settings.hidden) == (("jpg",), ("a", "b"), True)


def test_names_of_an_earlier_system_still_count(tmp_path: Path) -> None:
    old = {"ML_INFERENCE_BATCH_SIZE": "9", "QDRANT_UPSERT_BATCH_SIZE": "10"}
    settings = load({"PIXD_HOME": str(tmp_path), **old})
    assert (settings.batch_size, settings.upsert_batch_size) == (9, 10)
    assert load({"PIXD_HOME": str(tmp_path), **old, "PIXD_BATCH_SIZE": "3"}).batch_size == 3


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PIXD_BATCH_SIZE", "many", "PIXD_BATCH_SIZE is set to “many”: it must be a whole number."),
        ("PIXD_BATCH_SIZE", "0", "PIXD_BATCH_SIZE is set to “0”: it must be a larger number."),
        ("PIXD_HIDDEN", "perhaps", "PIXD_HIDDEN is set to “perhaps”: it must be true or false."),
        ("PIXD_LOG_LEVEL", "loud", "it must be one of debug, info, warning, error."),
        ("PIXD_BACH_SIZE", "3", "PIXD_BACH_SIZE is not a setting. Did you mean PIXD_BATCH_SIZE?"),
    ],
)
def test_a_wrong_setting_gets_a_sentence(name: str, value: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load({"PIXD_HOME": str(tmp_path), name: value})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch_size = ", "is not valid TOML"),
        ("bach_size = 3", "“bach_size”, which is no setting. Did you mean batch_size?"),
        ('batch_size = "x"', "“batch_size” in"),
        ('home = "/tmp"', "cannot stand in PIXD_HOME"),
    ],
)
def test_a_wrong_file_gets_a_sentence(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "pixd.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load({"PIXD_HOME": str(tmp_path)})
    assert says in str(caught.value)
