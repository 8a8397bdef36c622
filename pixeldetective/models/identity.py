"""From what PIXD_MODEL and PIXD_CAPTION_MODEL say to the id that topics, groups and collections are named for.

| setting | resolved id |
|---|---|
| `builtin` | `builtin` |
| `open_clip:ViT-B-32/laion2b_s34b_b79k` (architecture, tag) | the same, the tag as open_clip spells it |
| `open_clip:ViT-B-32/openai` (QuickGELU weights) | `open_clip:ViT-B-32-quickgelu/openai` |
| `open_clip:ViT-B-32//models/mine` (a file or directory) | `open_clip:ViT-B-32/mine@0123456789abcdef` |
| `open_clip:tiny//models/mine` (a directory with its own configuration) | `open_clip:tiny-64d/mine@0123456789abcdef` |
| `blip:<organisation>/<name>` | the same |
| `blip:/models/blip` | `blip:blip@0123456789abcdef` |

The digits are a digest of the files: other weights under the same path are another model. A resolved id says nothing of
where the files lie, because that differs between machines. A process that is handed one finds them through its own
PIXD_MODEL, or through what this machine resolved before, and checks that they are the ones meant.

`open_clip:tiny-64d`: how long the vectors of an architecture are that open_clip does not know, 64, stands in the id,
because the sinks need it where no weights are.

Call `resolve` once wherever a setting enters: where a collection is registered, and at the start of a process. All else
takes resolved ids. A resolved id resolves to itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.models import architectures, weights
from pixeldetective.models.slug import BUILTIN

OPEN_CLIP = "open_clip"
BLIP = "blip"

_LOCAL = re.compile(rf"[^/]+@[0-9a-f]{{{weights.DIGITS}}}")
_OWN = re.compile(r".*-([1-9][0-9]*)d")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is known exactly."""

    id: str  # what topics, groups, caches and collections are named for
    family: str  # "builtin", "open_clip" or "blip"
    architecture: str = ""  # of open_clip, as it was set
    hub: str = ""  # where the weights come from: open_clip's tag, or the id of a model on the hub
    path: Path | None = None  # or where they lie: a file or a directory


def resolve(model_id: str, *, cache: Path, configured: str = "") -> ResolvedModel:
    """What PIXD_MODEL, or the id that a collection is bound to, means on this machine.

    `cache` is the folder that keeps digests, PIXD_HOME/cache/models. `configured` is this process's PIXD_MODEL, where
    `model_id` came from elsewhere: there the weights of a resolved id are looked for first. Loads no network and does
    not import torch for a local model; takes seconds where weights have to be hashed, milliseconds afterwards.

    Raises UsageError for an id that names no model (the text names those that are meant, perhaps), PixdError if the
    weights of a resolved id are not on this machine.
    """
    family, architecture, source = parse(model_id)
    if family == BUILTIN:
        return ResolvedModel(BUILTIN, BUILTIN)
    if _LOCAL.fullmatch(source):
        return _here(model_id, "PIXD_MODEL", cache, configured)
    if "/" in source or source.startswith("~"):
        return _local_open_clip(architecture, source, cache)
    return _tagged(architecture, source, cache)


def resolve_captions(model_id: str, *, cache: Path, configured: str = "") -> ResolvedModel:
    """What PIXD_CAPTION_MODEL means on this machine; otherwise as `resolve`."""
    family, source = parse_captions(model_id)
    if family == BUILTIN:
        return ResolvedModel(BUILTIN, BUILTIN)
    if _LOCAL.fullmatch(source):
        return _here(model_id, "PIXD_CAPTION_MODEL", cache, configured)
    if source.startswith(("/", "~", ".")):
        path = weights.local_path(source)
        resolved = f"{BLIP}:{path.name}@{weights.digest(weights.blip_files(path), cache=cache)}"
        weights.remember(resolved, f"{BLIP}:{path}", cache=cache)
        return ResolvedModel(resolved, BLIP, path=path)
    if not _HUB.fullmatch(source):
        raise _no_caption_model(model_id)
    return ResolvedModel(model_id, BLIP, hub=source)


def dimension(model_id: str) -> int:
    """Length of the vectors of a model, resolved or as it was set, without its weights and without importing torch.

    Raises UsageError for an id that names no model.
    """
    family, architecture, source = parse(model_id)
    if family == BUILTIN:
        return 384
    known = architectures.dimension_of_architecture(architecture)
    if known is not None:
        return known
    if _LOCAL.fullmatch(source):
        if own := _OWN.fullmatch(architecture):
            return int(own[1])
    elif "/" in source or source.startswith("~"):
        stated = architectures.dimension_in(weights.local_path(source))
        if stated is not None:
            return stated
    raise _no_architecture(architecture)


def parse(model_id: str) -> tuple[str, str, str]:
    """Family, architecture and weights of an embedding model's id. Raises UsageError if it has another form."""
    if model_id == BUILTIN:
        return BUILTIN, "", ""
    family, _, rest = model_id.partition(":")
    architecture, _, source = rest.partition("/")
    if family != OPEN_CLIP or not architecture or not source:
        captions = " It describes pictures: set PIXD_CAPTION_MODEL to it." if family == BLIP else ""
        raise UsageError(
            f"“{model_id}” names no model that embeds pictures.{captions} Valid are “{BUILTIN}” and "
            f"“{OPEN_CLIP}:<architecture>/<weights>”, for example {OPEN_CLIP}:ViT-B-32/laion2b_s34b_b79k, or "
            f"{OPEN_CLIP}:ViT-B-32//path/to/weights for weights on this machine."
        )
    return OPEN_CLIP, architecture, source


def parse_captions(model_id: str) -> tuple[str, str]:
    """Family and weights of a caption model's id. Raises UsageError if it has another form."""
    if model_id == BUILTIN:
        return BUILTIN, ""
    family, _, source = model_id.partition(":")
    if family != BLIP or not source:
        raise _no_caption_model(model_id)
    return BLIP, source


def _tagged(architecture: str, tag: str, cache: Path) -> ResolvedModel:
    """Weights that open_clip knows how to download."""
    if architecture not in architectures.names():
        raise _no_architecture(architecture)
    known = architectures.tags(cache=cache)
    tags = known.get(architecture, {})
    spelled = tag.lower().replace("-", "_")
    if spelled not in tags:
        near = get_close_matches(spelled, tags, n=4, cutoff=0.3) or sorted(tags)[:8]
        there_are = f"Nearest are {', '.join(near)}" if near else f"open_clip knows no weights of {architecture}"
        raise UsageError(
            f"“{tag}” names no weights of {architecture}. {there_are}. For weights on this machine write their path in "
            f"full, with a second slash: {OPEN_CLIP}:{architecture}//path/to/weights."
        )
    if tags[spelled] and not architectures.uses_quick_gelu(architecture):
        # With the other activation open_clip only warns, and every vector would be a little wrong.
        quick = architecture + architectures.QUICK_GELU
        if spelled not in known.get(quick, {}) or quick not in architectures.names():
            raise UsageError(f"The weights {tag} need the activation QuickGELU, which no {quick} of open_clip offers.")
        architecture = quick
    return ResolvedModel(f"{OPEN_CLIP}:{architecture}/{spelled}", OPEN_CLIP, architecture, hub=spelled)


def _local_open_clip(architecture: str, source: str, cache: Path) -> ResolvedModel:
    """Weights that lie on this machine."""
    try:
        path = weights.local_path(source)
    except UsageError:
        if architecture not in architectures.names():
            raise _no_architecture(architecture) from None
        raise
    known, stated = architectures.dimension_of_architecture(architecture), architectures.dimension_in(path)
    if known is None and stated is None:
        raise _no_architecture(architecture)
    if None not in (known, stated) and known != stated:
        raise UsageError(
            f"{path} is no {architecture}: its {weights.OPEN_CLIP_CONFIG} states vectors of {stated} values, "
            f"{architecture} has {known}. Name the architecture that it is."
        )
    label = architecture if known is not None else f"{architecture}-{stated}d"
    files = weights.open_clip_files(path)
    resolved = f"{OPEN_CLIP}:{label}/{path.name}@{weights.digest(files, cache=cache)}"
    weights.remember(resolved, f"{OPEN_CLIP}:{architecture}/{path}", cache=cache)
    return ResolvedModel(resolved, OPEN_CLIP, architecture, path=path)


def _here(model_id: str, setting: str, cache: Path, configured: str) -> ResolvedModel:
    """Find the weights of a resolved id on this machine."""
    again = resolve if setting == "PIXD_MODEL" else resolve_captions
    found = ""
    for candidate in (configured, weights.remembered(model_id, cache=cache) or ""):
        # What is not a path leads nowhere: another resolved id, a tag, `builtin`.
        if not _is_path(candidate) or candidate in found:
            continue
        try:
            known = again(candidate, cache=cache)
        except PixdError as error:
            found += f" {error}"
            continue
        if known.id == model_id:
            return known
        found += f" {candidate} is {known.id}."
    name = model_id.rpartition("@")[0]
    example = f"{name.partition(':')[0]}:/path/to/{name.partition(':')[2]}"
    if model_id.startswith(OPEN_CLIP):
        architecture, _, name = name.partition("/")
        example = f"{architecture}//path/to/{name}"
    raise PixdError(
        f"The weights of {model_id} are not known on this machine.{found} Copy them here from where they are and set "
        f"{setting} to their path, as in {example}. If they were changed on purpose, index into another collection "
        "(PIXD_COLLECTION)."
    )


def _is_path(model_id: str) -> bool:
    family, _, rest = model_id.partition(":")
    source = rest.partition("/")[2] if family == OPEN_CLIP else rest
    return source.startswith(("/", "~"))


def _no_architecture(architecture: str) -> UsageError:
    names = {name.lower(): name for name in architectures.names()}
    near = [names[name] for name in get_close_matches(architecture.lower(), names, n=4, cutoff=0.4)]
    meant = f"Nearest are {', '.join(near)}" if near else "ViT-B-32 is one"
    return UsageError(
        f"open_clip knows no architecture “{architecture}”. {meant}. One that it does not know must be a directory "
        f"with its own {weights.OPEN_CLIP_CONFIG}."
    )


def _no_caption_model(model_id: str) -> UsageError:
    return UsageError(
        f"“{model_id}” names no model that describes pictures. Valid are “{BUILTIN}” and “{BLIP}:<model>”, for example "
        f"{BLIP}:Salesforce/blip-image-captioning-base, or {BLIP}:/path/to/directory for one on this machine."
    )
