"""From settings to ids: what a model is called, and how its weights are found again."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import open_clip
import pytest
from open_clip.factory import _find_checkpoint_in_dir
from structlog.testing import capture_logs

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.models import architectures, weights
from pixeldetective.models.identity import dimension, resolve, resolve_captions
from pixeldetective.models.slug import slug

CONFIG = {"model_cfg": {"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}}}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A directory with an architecture of its own; nothing here loads it."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    (folder / "open_clip_model.safetensors").write_bytes(b"weights")
    return folder


def test_the_tags_are_those_that_open_clip_lists(notes: Path) -> None:
    known = architectures.tags(cache=notes)
    assert [(name, tag) for name in known for tag in known[name]] == open_clip.list_pretrained()
    assert set(architectures.names()) == set(open_clip.list_models())
    assert known["ViT-B-32"]["openai"]
    assert not known["ViT-B-32"]["laion2b_s34b_b79k"]


def test_dimensions_are_those_that_open_clip_configures() -> None:
    for name in open_clip.list_models():
        assert dimension(f"open_clip:{name}/any") == open_clip.get_model_config(name)["embed_dim"]


@pytest.mark.parametrize(
    ("setting", "resolved"),
    [
        ("builtin", "builtin"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/laion2B-s34B-b79K", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-B-32-quickgelu/openai", "open_clip:ViT-B-32-quickgelu/openai"),
    ],
)
def test_a_model_of_the_hub_has_one_id_however_it_is_spelled(notes: Path, setting: str, resolved: str) -> None:
    assert resolve(setting, cache=notes).id == resolved
    assert resolve(resolved, cache=notes).id == resolved


def test_every_tag_of_open_clip_resolves_to_weights_of_its_own_activation(notes: Path) -> None:
    known = architectures.tags(cache=notes)
    for architecture, tag in open_clip.list_pretrained():
        found = resolve(f"open_clip:{architecture}/{tag}", cache=notes)
        assert architectures.uses_quick_gelu(found.architecture) or not known[architecture][tag]
        assert dimension(found.id) == dimension(f"open_clip:{architecture}/{tag}")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("open_clip:ViT-B-32/laion2b_s34b_b79", "Nearest are laion2b_s34b_b79k"),
        ("open_clip:ViT-B32/openai", "Nearest are ViT-B-32"),
        ("open_clip:ViT-S-32/openai", "open_clip knows no weights of ViT-S-32"),
        ("open_clip:ViT-B-32/models/mine", "is relative. Write it in full"),
        ("open_clip:ViT-B-32//nowhere/mine", "There are no weights at /nowhere/mine"),
        ("open_clip:ViTB32//nowhere/mine", "knows no architecture “ViTB32”"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(notes: Path, setting: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        resolve(setting, cache=notes)


def test_a_directory_is_named_for_its_weights_and_not_for_its_place(own: Path, tmp_path: Path) -> None:
    found = resolve(f"open_clip:tiny/{own}", cache=tmp_path)
    moved = shutil.copytree(own, tmp_path / "elsewhere" / "mine")
    assert found.id.startswith("open_clip:tiny-64d/mine@")
    assert len(found.id.rpartition("@")[2]) == 16
    assert resolve(f"open_clip:tiny/{moved}/", cache=tmp_path).id == found.id
    assert dimension(found.id) == dimension(f"open_clip:tiny/{own}") == 64
    assert slug(found.id).startswith("open-clip-tiny-64d-mine-")


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json"])
def test_another_file_under_the_same_path_is_another_model(own: Path, tmp_path: Path, file: str) -> None:
    before = resolve(f"open_clip:tiny/{own}", cache=tmp_path).id
    with (own / file).open("a") as changed:
        changed.write(" ")
    assert resolve(f"open_clip:tiny/{own}", cache=tmp_path).id != before


@pytest.mark.parametrize("file", ["README.md", "open_clip_pytorch_model.bin", "optimizer.pth"])
def test_a_file_that_open_clip_does_not_read_changes_no_id(own: Path, tmp_path: Path, file: str) -> None:
    before = resolve(f"open_clip:tiny/{own}", cache=tmp_path).id
    (own / file).write_text("not read")
    assert resolve(f"open_clip:tiny/{own}", cache=tmp_path).id == before


def test_weights_are_hashed_once(own: Path, tmp_path: Path) -> None:
    with capture_logs() as first:
        before = resolve(f"open_clip:tiny/{own}", cache=tmp_path).id
    with capture_logs() as second:
        assert resolve(f"open_clip:tiny/{own}", cache=tmp_path).id == before
    assert [line["event"] for line in first] == ["hashing weights"] * 2
    assert second == []


def test_weights_of_the_same_size_and_time_in_another_file_are_hashed_again(own: Path, tmp_path: Path) -> None:
    before = resolve(f"open_clip:tiny/{own}", cache=tmp_path).id
    path = own / "open_clip_model.safetensors"
    status = path.stat()
    (own / "new").write_bytes(b"WEIGHTS")
    os.utime(own / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (own / "new").replace(path)
    assert resolve(f"open_clip:tiny/{own}", cache=tmp_path).id != before


def test_a_damaged_note_is_written_anew(own: Path, tmp_path: Path) -> None:
    before = resolve(f"open_clip:tiny/{own}", cache=tmp_path).id
    for note in [*(tmp_path / "digests").iterdir(), *(tmp_path / "places").iterdir()]:
        note.write_bytes(b"{")
    assert resolve(f"open_clip:tiny/{own}", cache=tmp_path).id == before
    assert resolve(before, cache=tmp_path).path == own


def test_a_resolved_id_leads_to_the_weights_through_this_machines_setting(own: Path, tmp_path: Path) -> None:
    resolved = resolve(f"open_clip:tiny/{own}", cache=tmp_path / "one").id
    other = shutil.copytree(own, tmp_path / "mounted" / "mine")
    found = resolve(resolved, cache=tmp_path / "two", configured=f"open_clip:tiny/{other}")
    assert (found.id, found.path, found.architecture) == (resolved, other, "tiny")
    # And from then on without it, for another collection's model is found while PIXD_MODEL names a newer one.
    assert resolve(resolved, cache=tmp_path / "two", configured="builtin").path == other


def test_a_resolved_id_whose_weights_are_not_here_is_answered_with_what_to_set(own: Path, tmp_path: Path) -> None:
    resolved = resolve(f"open_clip:tiny/{own}", cache=tmp_path / "one").id
    for configured in ("", "builtin", resolved, "open_clip:ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(PixdError, match=r"not known on this machine.*PIXD_MODEL.*open_clip:tiny-64d//path/to/mine"):
            resolve(resolved, cache=tmp_path / "two", configured=configured)


def test_weights_that_were_changed_are_not_taken_for_those_that_a_collection_is_bound_to(
    own: Path, tmp_path: Path
) -> None:
    setting = f"open_clip:tiny/{own}"
    before = resolve(setting, cache=tmp_path).id
    time.sleep(0.01)
    (own / "open_clip_model.safetensors").write_bytes(b"better weights")
    after = resolve(setting, cache=tmp_path).id
    with pytest.raises(PixdError, match=rf"{setting} is {after}\. Copy") as caught:
        resolve(before, cache=tmp_path, configured=setting)
    assert str(caught.value).count(after) == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [("{", "does not describe a model"), ("[]", "does not describe a model"), ('{"model_cfg": {}}', "“embed_dim”")],
)
def test_a_damaged_configuration_is_named(own: Path, tmp_path: Path, content: str, text: str) -> None:
    (own / "open_clip_config.json").write_text(content)
    for call in (lambda: resolve(f"open_clip:tiny/{own}", cache=tmp_path), lambda: dimension(f"open_clip:tiny/{own}")):
        with pytest.raises(UsageError, match=text):
            call()


def test_a_directory_of_another_architecture_than_the_one_named_is_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="states vectors of 64 values, ViT-B-32 has 512"):
        resolve(f"open_clip:ViT-B-32/{own}", cache=tmp_path)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(UsageError, match="holds no weights"):
        resolve(f"open_clip:ViT-B-32/{tmp_path}", cache=tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("model.safetensors", "open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
        ("model.safetensors", "open_clip_pytorch_model.bin"),
        ("a.bin", "b.safetensors", "c.pth"),
        ("b.pth", "a.pth", "a.bin"),
        ("pytorch_model.bin", "a.safetensors"),
        ("epoch_1.pth",),
    ],
)
def test_the_weights_hashed_are_those_that_open_clip_loads(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert str(weights.open_clip_checkpoint(tmp_path)) == _find_checkpoint_in_dir(tmp_path)


def test_caption_models_are_named_alike(tmp_path: Path) -> None:
    hub = "blip:Salesforce/blip-image-captioning-base"
    assert (resolve_captions(hub, cache=tmp_path).id, resolve_captions("builtin", cache=tmp_path).id) == (
        hub,
        "builtin",
    )
    folder = tmp_path / "blip"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        resolve_captions(f"blip:{folder}", cache=tmp_path)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no weights"):
        resolve_captions(f"blip:{folder}", cache=tmp_path)
    (folder / "model.safetensors").write_bytes(b"weights")
    found = resolve_captions(f"blip:{folder}", cache=tmp_path)
    assert found.id.startswith("blip:blip@")
    assert resolve_captions(found.id, cache=tmp_path).path == folder
    with pytest.raises(PixdError, match=r"PIXD_CAPTION_MODEL to their path, as in blip:/path/to/blip"):
        resolve_captions(found.id, cache=tmp_path / "other")
    with pytest.raises(UsageError, match="is relative"):
        resolve_captions("blip:./blip", cache=tmp_path)
