"""Models by their ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.models.device import resolve
from pixeldetective.models.model import dimension_of, load_for_captions, load_for_images, load_for_queries


def test_the_dimension_is_known_without_torch() -> None:
    code = "import sys; from pixeldetective.models import model; "
    code += "print(model.dimension_of('builtin'), 'torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer == "384 False\n"


@pytest.mark.parametrize(
    "model_id", ["", "clip", "Builtin", "open_clip", "open_clip:", "open_clip:ViT-B-32", "blip:x/y"]
)
def test_an_id_that_names_no_model_is_answered_with_the_valid_forms(model_id: str, tmp_path: Path) -> None:
    for call in (
        lambda: dimension_of(model_id),
        lambda: load_for_images(model_id, "cpu", cache=tmp_path),
        lambda: load_for_queries(model_id, "cpu", cache=tmp_path),
        lambda: load_for_captions(model_id, "cpu"),
    ):
        with pytest.raises(UsageError, match=r"builtin.*open_clip:<architecture>/<weights>"):
            call()


def test_an_open_clip_model_is_refused_with_what_there_is() -> None:
    with pytest.raises(PixdError, match="only model it has is “builtin”") as caught:
        dimension_of("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="PIXD_DEVICE"):
        resolve(name)


def test_a_device_can_be_named_or_left_to_choose() -> None:
    assert resolve("cpu") == "cpu"
    assert resolve("") in {"cpu", "cuda"}
