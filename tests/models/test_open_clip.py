"""open_clip's models as loaded here against open_clip itself, on real photos and random weights."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import skimage
import sklearn
import torch
from PIL import Image
from torch.nn.functional import normalize

from pixeldetective.errors import PixdError
from pixeldetective.images.decode import decode
from pixeldetective.models.identity import resolve
from pixeldetective.models.model import dimension_of, load_for_images, load_for_queries
from pixeldetective.models.open_clip import OpenClipEmbedding
from tests.models.small import LONGEST, SQUASHED, TINY, save_open_clip, shaken

Floats = npt.NDArray[np.float32]

TEXTS = ["a cat", "", "Zwei Möwen am Strand – im März", "猫が好き", "word " * 200]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos, and one JPEG of 24 megapixels; none with transparency or a colour profile, which open_clip ignores."""
    data = Path(skimage.__file__).parent / "data"
    images = Path(sklearn.__file__).parent / "datasets" / "images"
    names = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "coins.png")
    paths = [*(data / name for name in names), *sorted(images.glob("*.jpg"))]
    large = tmp_path_factory.mktemp("large") / "large.jpg"
    with Image.open(images / "china.jpg") as image:
        image.resize((6000, 4003), Image.Resampling.LANCZOS).save(large, quality=92)
    return [*paths, large]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_open_clip(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def queries(folder: Path, notes: Path) -> OpenClipEmbedding:
    model = load_for_queries(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    assert isinstance(model, OpenClipEmbedding)
    return model


def ours(model: OpenClipEmbedding, files: list[Path]) -> Floats:
    decoded = (decode(path.read_bytes(), extension=path.suffix, side=model.side, max_pixels=10**8) for path in files)
    return np.stack([model.preprocess(picture.pixels) for picture in decoded])


def theirs(transform: Any, files: list[Path]) -> Floats:
    prepared = []
    for path in files:
        with Image.open(path) as image:
            prepared.append(transform(image.convert("RGB")).numpy())
    return np.stack(prepared)


def cosines(one: Floats, other: Floats) -> Floats:
    """Of each row with its counterpart, once as they are, once after the mean over all photos is taken off.

    Random networks put all pictures near one another; only what is left after that tells pictures apart.
    """
    mean = other.mean(axis=0)
    raw = [(a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1) for a, b in
           ((one, other), (one - mean, other - mean))]  # fmt: skip
    return np.array(raw, np.float32)


@pytest.mark.parametrize("preprocess", [None, SQUASHED, LONGEST], ids=["shortest", "squash", "longest"])
def test_vectors_equal_those_of_open_clips_own_pipeline(
    files: list[Path], notes: Path, tmp_path: Path, preprocess: dict[str, Any] | None
) -> None:
    folder = save_open_clip(tmp_path / "model", preprocess=preprocess)
    model = load_for_images(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    assert isinstance(model, OpenClipEmbedding)
    network, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with torch.inference_mode():
        expected = network.eval().encode_image(torch.from_numpy(theirs(transform, files)), normalize=True).numpy()
    raw, centred = cosines(model.embed_images(ours(model, files)), expected)
    print("cosines", raw.min(), "centred", centred.min())
    assert raw.min() > 0.99
    assert centred.min() > 0.99


@pytest.mark.parametrize("preprocess", [None, SQUASHED, LONGEST], ids=["shortest", "squash", "longest"])
def test_preparing_is_open_clips_own_transform(
    files: list[Path], notes: Path, tmp_path: Path, preprocess: dict[str, Any] | None
) -> None:
    folder = save_open_clip(tmp_path / "model", preprocess=preprocess)
    model = load_for_images(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    for path in files[:5]:
        with Image.open(path) as image:
            whole = image.convert("RGB")
        prepared = model.preprocess(np.asarray(whole))
        assert prepared.shape == (3, 96, 96)
        assert prepared.dtype == np.float32
        assert prepared.flags.c_contiguous
        assert np.abs(prepared - transform(whole).numpy()).max() < 1e-5


def test_texts_get_the_vectors_of_open_clip(queries: OpenClipEmbedding, folder: Path) -> None:
    network = open_clip.create_model_from_pretrained(f"local-dir:{folder}", return_transform=False).eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.inference_mode():
        expected = network.encode_text(tokens, normalize=True).numpy()
    assert np.abs(queries.embed_texts(TEXTS) - expected).max() < 1e-6


def test_vectors_have_unit_length_and_the_type_promised(queries: OpenClipEmbedding, files: list[Path]) -> None:
    for vectors in (queries.embed_images(ours(queries, files[:3])), queries.embed_texts(TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == queries.dimension == 64
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert queries.embed_images(np.empty((0, 3, 96, 96), np.float32)).shape == (0, 64)
    assert queries.embed_texts([]).shape == (0, 64)


def test_a_vector_does_not_depend_on_its_batch(queries: OpenClipEmbedding, files: list[Path]) -> None:
    batch = ours(queries, files)
    alone = np.concatenate([queries.embed_images(one[None]) for one in batch])
    assert np.abs(queries.embed_images(batch) - alone).max() < 1e-5
    together = queries.embed_texts(TEXTS * 30)
    assert np.abs(together[: len(TEXTS)] - np.concatenate([queries.embed_texts([text]) for text in TEXTS])).max() < 1e-5


def test_half_precision_moves_a_vector_little_and_its_batch_less(
    queries: OpenClipEmbedding, files: list[Path], notes: Path
) -> None:
    resolved = resolve(queries.id, cache=notes)
    half = OpenClipEmbedding(resolved, "cpu", cache=notes, for_queries=True, precision=torch.float16)
    batch = ours(queries, files)
    vectors = half.embed_images(batch)
    raw, _ = cosines(vectors, queries.embed_images(batch))
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert raw.min() > 0.99
    alone = np.concatenate([half.embed_images(one[None]) for one in batch])
    assert np.abs(vectors - alone).max() < 1e-3
    assert np.abs(half.embed_texts(TEXTS) - queries.embed_texts(TEXTS)).max() < 1e-6  # they stay in float32


def test_a_network_that_overflows_in_fp16_runs_in_bf16(notes: Path, tmp_path: Path) -> None:
    network = shaken(open_clip.CLIP(**TINY), 0)
    with torch.no_grad():
        network.visual.conv1.weight *= 1e3
        network.visual.ln_pre.weight *= 3e4
    open_clip.set_model_preprocess_cfg(network, {"mean": (0.5,) * 3, "std": (0.2,) * 3})
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    save_config_for_hf(network, tmp_path / "open_clip_config.json", TINY)
    resolved = resolve(f"open_clip:tiny/{tmp_path}", cache=notes)
    half = OpenClipEmbedding(resolved, "cpu", cache=notes, for_queries=False, precision=torch.float16)
    assert half._precision == torch.bfloat16
    assert np.isfinite(half.embed_images(np.ones((2, 3, 96, 96), np.float32))).all()


def test_a_model_for_pictures_drops_the_text_tower_and_fetches_it_when_it_is_asked(
    queries: OpenClipEmbedding, folder: Path, notes: Path
) -> None:
    images = load_for_images(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    assert isinstance(images, OpenClipEmbedding)
    assert images._texts is None
    assert np.abs(images.embed_texts(TEXTS) - queries.embed_texts(TEXTS)).max() < 1e-6


def test_a_custom_text_model_is_loaded_alike(notes: Path, tmp_path: Path, files: list[Path]) -> None:
    folder = save_open_clip(tmp_path / "custom", config={**TINY, "custom_text": True})
    model = load_for_images(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    assert isinstance(model, OpenClipEmbedding)
    network = open_clip.create_model_from_pretrained(f"local-dir:{folder}", return_transform=False).eval()
    batch = ours(model, files[:3])
    with torch.inference_mode():
        expected = network.encode_image(torch.from_numpy(batch), normalize=True).numpy()
    assert np.abs(model.embed_images(batch) - expected).max() < 1e-6
    assert model.embed_texts(["a cat"]).shape == (1, 64)


def test_many_threads_prepare_and_embed_texts_alike(queries: OpenClipEmbedding, files: list[Path]) -> None:
    pixels = [decode(path.read_bytes(), extension=path.suffix, side=96, max_pixels=10**8).pixels for path in files[:5]]
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(queries.preprocess, pixels * 4))
        vectors = list(pool.map(lambda text: queries.embed_texts([text])[0], TEXTS * 4))
    assert all(np.array_equal(prepared[index], prepared[index % 5]) for index in range(20))
    assert all(np.abs(vectors[index] - vectors[index % 5]).max() < 1e-6 for index in range(20))


@pytest.mark.parametrize("preprocess", [None, SQUASHED, LONGEST], ids=["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (20, 60_000), (97, 388), (97, 389), (5, 7)])
def test_any_shape_can_be_prepared(
    notes: Path, tmp_path: Path, preprocess: dict[str, Any] | None, shape: tuple[int, int]
) -> None:
    folder = save_open_clip(tmp_path / "model", preprocess=preprocess)
    model = load_for_images(f"open_clip:tiny/{folder}", "cpu", cache=notes)
    prepared = model.preprocess(np.full((*shape, 3), 200, np.uint8))
    assert prepared.shape == (3, 96, 96)
    assert np.isfinite(prepared).all()


def test_a_long_picture_shows_what_open_clips_own_crop_shows(queries: OpenClipEmbedding, folder: Path) -> None:
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with Image.open(Path(skimage.__file__).parent / "data" / "page.png") as image:
        strip = image.convert("RGB").crop((0, 40, 384, 100)).resize((1200, 190))
    expected = transform(strip).numpy()
    assert np.corrcoef(queries.preprocess(np.asarray(strip)).ravel(), expected.ravel())[0, 1] > 0.99


def test_a_file_of_weights_alone_is_loaded_for_the_architecture_named(notes: Path, tmp_path: Path) -> None:
    # The smallest architecture that open_clip knows by name.
    network = shaken(open_clip.create_model("ViT-S-32-alt"), 3)
    path = tmp_path / "mine.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    model = load_for_queries(f"open_clip:ViT-S-32-alt/{path}", "cpu", cache=notes)
    assert model.id.startswith("open_clip:ViT-S-32-alt/mine.pt@")
    assert model.dimension == dimension_of(model.id) == 256
    batch = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = normalize(network.encode_image(torch.from_numpy(batch)), dim=-1).numpy()
    assert np.abs(model.embed_images(batch) - expected).max() < 1e-6
    directory = tmp_path / "directory"
    directory.mkdir()
    shutil.copy(path, directory / "epoch_1.pth")
    again = load_for_images(f"open_clip:ViT-S-32-alt/{directory}", "cpu", cache=notes)
    assert np.abs(again.embed_images(batch) - expected).max() < 1e-6
    with pytest.raises(PixdError, match=r"mine\.pt cannot be loaded as ViT-S-32: .*another architecture"):
        load_for_images(f"open_clip:ViT-S-32/{path}", "cpu", cache=notes)


@pytest.mark.parametrize("damage", ["truncated", "nonsense", "empty"])
def test_damaged_weights_are_named(notes: Path, folder: Path, tmp_path: Path, damage: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "open_clip_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "nonsense": b"nonsense" * 100, "empty": b""}[damage])
    with pytest.raises(PixdError, match=r"copy cannot be loaded as tiny: .*Fetch them again"):
        load_for_images(f"open_clip:tiny/{copy}", "cpu", cache=notes)


def test_weights_that_change_while_they_are_loaded_are_refused(
    notes: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    original = open_clip.create_model_from_pretrained

    def replaced_meanwhile(*arguments: Any, **named: Any) -> Any:
        save_open_clip(copy, seed=9)
        return original(*arguments, **named)

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", replaced_meanwhile)
    with pytest.raises(PixdError, match="changed while they were loaded"):
        load_for_images(f"open_clip:tiny/{copy}", "cpu", cache=notes)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the model hub, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.usefixtures("hub")
def test_weights_that_the_hub_does_not_give_are_answered_with_what_to_do(notes: Path) -> None:
    with pytest.raises(PixdError, match=r"cannot be had from the model hub: .*PIXD_MODEL.*//path/to/.*HF_HOME"):
        load_for_images("open_clip:ViT-B-32/laion2b_s34b_b79k", "cpu", cache=notes)


def test_the_real_vit_b_32_comes_from_the_hubs_cache_and_equals_open_clips_own(
    notes: Path, hub: Path, files: list[Path]
) -> None:
    """12 s and 2 GB: the full size, random weights in the place where the hub would have put the trained ones."""
    from safetensors.torch import save_file

    repository = hub / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    network, _, transform = open_clip.create_model_and_transforms("ViT-B-32")
    shaken(network, 0)
    save_file(network.state_dict(), snapshot / "open_clip_model.safetensors")

    model = load_for_queries("open_clip:ViT-B-32/laion2b_s34b_b79k", "cpu", cache=notes)
    assert isinstance(model, OpenClipEmbedding)
    assert (model.id, model.side, model.dimension) == ("open_clip:ViT-B-32/laion2b_s34b_b79k", 224, 512)
    with torch.inference_mode():
        expected = network.encode_image(torch.from_numpy(theirs(transform, files)), normalize=True).numpy()
        texts = network.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS), normalize=True).numpy()
    raw, centred = cosines(model.embed_images(ours(model, files)), expected)
    print("cosines", raw.min(), "centred", centred.min())
    assert raw.min() > 0.99
    assert centred.min() > 0.99
    assert np.abs(model.embed_texts(TEXTS) - texts).max() < 1e-6
