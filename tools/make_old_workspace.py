"""Make the fixture of `tests/store/test_old_workspace.py`: small workspaces of the installed version and their keys.

    python tools/make_old_workspace.py tests/fixtures/workspace_of_0_1

Two catalogues of the same made-up items, by fake encoders, readers and writers: `shop` has every stage that needs no
torch; `school` has heads and a tiny language model that were trained. Media are named `dir://FILE`, so that no key
holds the path of a machine. It uses public names of the package alone and runs with any version of it; made again, the
fixture says what the version at hand would write.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import shutil
import sys
import tarfile
import tempfile
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from PIL import Image
from row_keys import read_keys

COLOURS = {
    "Red": (210, 40, 40),
    "Green": (40, 160, 60),
    "Blue": (40, 60, 210),
    "Yellow": (225, 210, 50),
    "Grey": (130, 130, 130),
    "White": (240, 240, 240),
}
SORTS = ("Hat", "Shoe", "Bag", "Scarf")
PRODUCTS, COLD = 48, 8
"""Products, and how many of them, the last, nobody has met."""
PEOPLE, MET = 36, 12
START_S = 1_767_225_600  # 2026-01-01
LIBRARIES = ("av", "numpy", "pillow", "scenedetect-headless", "opencv-python-headless")
"""Packages whose versions are part of keys: the test runs with those that the fixture was made with."""
CLASSES = {
    "templates": ["{}"],
    "classes": {sort: [f"{colour} {sort}" for colour in COLOURS] for sort in SORTS},
}
SETTINGS = {
    "manifest": "items.jsonl",
    "max_failed": 1.0,
    "media": {"allowed_schemes": ["dir"]},
    "engine": {"workers": 2, "device": "cpu", "dtype": "float32"},
    "attributes": {
        "default": {"colour": {"values": list(COLOURS), "visual": True}, "sort": {"from": "category"}},
    },
}
IMAGE = {"stage": "embed", "encoder": "fake:24", "input": "image", "frames": 2}
DESCRIBED = {"stage": "embed", "encoder": "fake:32", "input": "text", "prompt": "described"}
SHOP = {
    "ingest": {},
    "understand": {"speech": {"model": "fake"}, "screen": {"reader": "fake", "fps": 2}},
    "image": {**IMAGE, "frame_policy": "shots"},
    "text": {"stage": "embed", "encoder": "fake:32", "input": "text", "prompt": "item_evidence"},
    "align": {
        "text_image": False,
        "behaviour": {
            "spaces": ["image", "text"],
            "dim": 8,
            "candidates": {"knn": {}, "ridge": {"target": "users"}},
            "weights": {"image": 1.0, "text": 1.0, "labels": 0.5},
            "power": 0.5,
            "warm_min": 3,
        },
    },
    "behaviour": {},
    "label": {"classes": "classes.yaml", "spaces": ["text"]},
    "describe": {"grounds": {"min_items": 20, "precision": 0.5}, "write": {"generator": "fake"}, "check": {}},
    "described": DESCRIBED,
    "index": {},
}
SCHOOL = {
    "ingest": {},
    "image": IMAGE,
    "align": {
        "behaviour": False,
        "text_image": {
            "text": "fake:32",
            "min_items": 20,
            "test_share": 0.2,
            "near_duplicates": None,
            "training": {"epochs": 2, "dim": 8, "batch_size": 32},
        },
    },
    "aligned": {"stage": "embed", "encoder": "align:text_image", "input": "image", "over": "image"},
    "finetune": {
        "describe": {
            "generator": "hf:writer",
            "given": ["title", "creator"],
            "views": 1,
            "min_items": 10,
            "max_items": 20,
            "judged": 0,
            "summary": "attributes",
            "training": {"epochs": 1, "r": 2, "looks": 1},
        }
    },
    "describe": {"grounds": False, "write": {"generator": "finetune:describe"}, "check": {}},
    "described": DESCRIBED,
    "index": {},
}


def write_picture(path: Path, colour: str, number: int) -> None:
    """Write a PNG of 4 x 4 cells in shades of a colour that follow from the number."""
    shades = np.random.default_rng(number).uniform(0.45, 1.0, (4, 4, 1))
    cells = (np.array(COLOURS[colour]) * shades).astype(np.uint8)
    Image.fromarray(cells).resize((48, 48), Image.Resampling.NEAREST).save(path)


def write_media(path: Path, *, shots: int = 0, tone_hz: float = 0.0, black: bool = False, seed: int = 0) -> None:
    """Write two seconds of video, 10 frames a second, with a tone in its middle; without shots, the tone alone."""
    rate, fps, seconds = 16_000, 10, 2.0
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=fps, options={"bf": "0", "crf": "35"}) if shots else None
        if pictures:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream("aac", rate=rate, layout="mono") if tone_hz else None
        for number in range(round(seconds * fps) if pictures else 0):
            shot = int(number * shots / (seconds * fps))
            cells = np.random.default_rng([seed, shot]).integers(0, 1 if black else 256, (3, 4, 3)).astype(np.uint8)
            frame = np.roll(cells.repeat(16, 0).repeat(16, 1), number, axis=1)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame)))
        if pictures:
            container.mux(pictures.encode())
        if sound:
            times = np.arange(round(seconds * rate)) / rate
            loud = (times > 0.25 * seconds) & (times < 0.75 * seconds)
            samples = (0.3 * np.sin(2 * np.pi * tone_hz * times) * loud).astype(np.float32)
            for start in range(0, len(samples), 1024):
                piece = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
                piece.sample_rate, piece.pts, piece.time_base = rate, start, Fraction(1, rate)
                container.mux(sound.encode(piece))
            container.mux(sound.encode())


def write_items(folder: Path) -> None:
    """Write media and manifest: products, clips, a copy, and items that one stage or another turns away."""
    media = folder / "media"
    media.mkdir()
    rows: list[dict[str, Any]] = []
    for number in range(PRODUCTS):
        colour, sort = list(COLOURS)[number % 6], SORTS[number // 6 % 4]
        write_picture(media / f"p{number:02}.png", colour, number)
        rows.append(
            {
                "item_id": f"p{number:02}",
                "title": f"{colour} {sort} number {number}",
                "description": f"A {sort.lower()} of the colour {colour.lower()}, made by hand in workshop {number}.",
                "creator": f"seller {number % 16}",
                "created_at": START_S + number * 3600,
                "price": 5 + number % 9,
                "attributes": {"colour": colour},
                "image": f"dir://p{number:02}.png",
                **({} if number % 6 == 5 else {"category": sort}),
            }
        )
    write_media(media / "tone.mp4", shots=1, tone_hz=440)
    shutil.copy(media / "tone.mp4", media / "tone_again.mp4")
    write_media(media / "cuts.mp4", shots=2, seed=1)
    write_media(media / "black.mp4", shots=1, black=True)
    write_media(media / "beep.mkv", tone_hz=880)
    (media / "cut_off.png").write_bytes((media / "p00.png").read_bytes()[:90])
    write_picture(media / "refused.png", "Red", 999)
    rows += [
        {"item_id": "tone", "title": "Blue Hat on a head", "video": "dir://tone.mp4"},
        {"item_id": "tone-again", "title": "the same clip once more", "video": "dir://tone_again.mp4"},
        {
            "item_id": "cuts",
            "title": "Red Shoe, then Green Bag",
            "category": "Shoe",
            "attributes": {"colour": "Red"},
            "video": "dir://cuts.mp4",
        },
        {"item_id": "black", "title": "nothing to see", "video": "dir://black.mp4"},
        {"item_id": "beep", "title": "a beep", "audio": "dir://beep.mkv"},
        {"item_id": "words", "title": "Yellow Scarf without a picture", "category": "Scarf"},
        {"item_id": "broken", "title": "half a picture", "image": "dir://cut_off.png"},
        {"item_id": "refused", "title": "cocaine for sale, message for price", "image": "dir://refused.png"},
        {"item_id": "nothing"},
        {"item_id": "p00", "title": "an id that stands twice"},
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_interactions(folder: Path) -> None:
    """Write who met which products: each person likes one colour and one sort better."""
    rng = np.random.default_rng(0)
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for person in range(PEOPLE):
            places = np.arange(PRODUCTS - COLD)
            liked = 1.0 + 8 * (places % 6 == person % 6) + 4 * (places // 6 % 4 == person % 4)
            for place in sorted(rng.choice(places, MET, replace=False, p=liked / liked.sum())):
                writer.writerow([f"user-{person:02}", f"p{place:02}", START_S + 200_000 + 60 * person + int(place)])


def write_model(folder: Path) -> None:
    """Write a causal language model of one small layer and random weights, as models of the hub are."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(marks)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=marks[1], eos_token=marks[2], pad_token=marks[0]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def content_signatures(media: Path) -> None:
    """Let media named `dir://FILE` be read from a folder, with a signature that depends on their bytes alone."""
    os.environ |= {"FSSPEC_DIR_PATH": str(media), "FSSPEC_DIR_TARGET_PROTOCOL": "file"}  # worker processes read these
    from fsspec.implementations.dirfs import DirFileSystem

    DirFileSystem.ukey = lambda self, path: sha256(self.cat_file(path)).hexdigest()


def make(folder: Path) -> dict[str, Any]:
    """Make both workspaces in a folder, which is the working folder; returns their keys and where their items are."""
    import coldstart

    write_items(folder)
    write_interactions(folder)
    write_model(folder / "writer")
    (folder / "classes.yaml").write_text(yaml.safe_dump(CLASSES, sort_keys=False), "utf-8")
    made: dict[str, Any] = {
        "coldstart": coldstart.__version__,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    for name, stages in {"shop": SHOP, "school": SCHOOL}.items():
        pipeline = folder / f"{name}.yaml"
        pipeline.write_text(yaml.safe_dump({**SETTINGS, "stages": stages}, sort_keys=False), "utf-8")
        workspace = coldstart.open(folder / name, create=True)
        if name == "shop":
            workspace.run(pipeline, only=["ingest"])
            workspace.ingest_interactions(folder / "interactions.csv")
        workspace.run(pipeline)
        again = workspace.run(pipeline)  # a stage may wait in the first run for one that stands after it
        redone = {one.stage: one.ran.done + one.ran.lost for one in again.stages if one.ran.done + one.ran.lost}
        if redone:
            sys.exit(f"{name} is not at rest after a run: {redone}")
        made[name] = {**read_keys(folder / name), "balance": {}}
        for one in workspace.status():
            balance = one.balance
            counts = (balance.fresh, balance.failed, balance.filtered, balance.duplicate, balance.pending)
            made[name]["balance"][one.stage] = dict(
                zip(("fresh", "failed", "filtered", "duplicate", "pending"), counts, strict=True)
            )
            print(f"{name} {one.stage}: {made[name]['balance'][one.stage]}", *one.notes, sep="\n    ")
    return made


def pack(folder: Path, target: Path) -> None:
    """Pack a folder, without owners and lock files."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if Path(entry.name).name.startswith(".coldstart.lock"):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(target, "w:xz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=plain)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make small workspaces by the installed version, packed with their keys."
    )
    parser.add_argument("out", type=Path, help="folder for keys.json and workspaces.tar.xz")
    out = parser.parse_args().out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "made").resolve()
        folder.mkdir()
        os.environ["COLDSTART_MODELS"] = str(Path(temporary, "models"))
        content_signatures(folder / "media")
        os.chdir(folder)
        keys = make(folder)
        os.chdir(out)
        pack(folder, out / "workspaces.tar.xz")
    (out / "keys.json").write_text(json.dumps(keys, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{(out / 'workspaces.tar.xz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
