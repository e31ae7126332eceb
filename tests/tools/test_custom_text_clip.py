"""`starter-clip` as a model of open_clip gives the vectors of the encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from coldstart import encoders, sample
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.models.install import starter
from tools.starter_clip.custom_text_clip import custom_text_clip

TEXTS = ["a dog runs over the grass", "Red bell pepper, 500 g", "shoes"]


@pytest.mark.slow
def test_open_clip_model_has_the_vectors_of_the_encoder() -> None:
    import open_clip
    from timm.data import create_transform, resolve_model_data_config
    from transformers import AutoTokenizer

    encoder = encoders.load("starter-clip", device="cpu", dtype="float32")
    model = custom_text_clip()
    assert isinstance(model, open_clip.CustomTextCLIP)
    files = sorted((sample.path() / "images").rglob("*.jpg"))[:4]
    assert len(files) == 4
    assert encoder.image_transform is not None
    ours = encoder.encode_images([load_image(file, Limits(), encoder.image_transform, shrink=False) for file in files])
    transform = create_transform(**resolve_model_data_config(model.visual.trunk), is_training=False)
    pixels = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
    ids = AutoTokenizer.from_pretrained(starter("text"), local_files_only=True)(
        TEXTS, padding=True, return_tensors="pt"
    )["input_ids"]
    with torch.inference_mode():
        pictures = model.encode_image(pixels, normalize=True).numpy()
        texts = model.encode_text(ids, normalize=True).numpy()
    assert (ours * pictures).sum(1).min() > 0.9999
    assert (encoder.encode_documents(TEXTS) * texts).sum(1).min() > 0.9999
    assert np.isclose(model.logit_scale.item(), encoder._aligned.heads.logit_scale.item())
