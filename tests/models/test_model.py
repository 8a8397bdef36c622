"""Models by their ids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixeldetective.errors import UsageError
from pixeldetective.models.device import resolve as resolve_device
from pixeldetective.models.model import (
    dimension_of,
    load_for_captions,
    load_for_images,
    load_for_queries,
    resolve,
    resolve_captions,
)


@pytest.mark.parametrize(
    ("model_id", "dimension"),
    [
        ("builtin", 384),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", 512),
        ("open_clip:ViT-L-14/mine@0123456789abcdef", 768),
        ("open_clip:tiny-64d/mine@0123456789abcdef", 64),
    ],
)
def test_the_dimension_is_known_without_torch(model_id: str, dimension: int) -> None:
    code = "import sys; from pixeldetective.models import model; "
    code += f"print(model.dimension_of('{model_id}'), 'torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert answer == f"{dimension} False\n"


@pytest.mark.parametrize(
    "model_id", ["", "clip", "Builtin", "open_clip", "open_clip:", "open_clip:ViT-B-32", "blip:x/y"]
)
def test_an_id_that_names_no_model_is_answered_with_the_valid_forms(model_id: str, tmp_path: Path) -> None:
    for call in (
        lambda: dimension_of(model_id),
        lambda: resolve(model_id, cache=tmp_path),
        lambda: load_for_images(model_id, "cpu", cache=tmp_path),
        lambda: load_for_queries(model_id, "cpu", cache=tmp_path),
    ):
        with pytest.raises(UsageError, match=r"builtin.*open_clip:<architecture>/<weights>"):
            call()


@pytest.mark.parametrize("model_id", ["", "clip", "blip", "blip:", "blip:x", "blip:x/y/z", "open_clip:ViT-B-32/openai"])
def test_an_id_that_names_no_caption_model_is_answered_with_the_valid_forms(model_id: str, tmp_path: Path) -> None:
    for call in (
        lambda: resolve_captions(model_id, cache=tmp_path),
        lambda: load_for_captions(model_id, "cpu", cache=tmp_path),
    ):
        with pytest.raises(UsageError, match=r"builtin.*blip:<model>"):
            call()


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="PIXD_DEVICE"):
        resolve_device(name)


def test_a_device_can_be_named_or_left_to_choose() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("") in {"cpu", "cuda"}
