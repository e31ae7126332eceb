import numpy as np
import pytest

from coldstart import encoders
from coldstart.encoders.colours import SIDE

RED, BLUE, WHITE, GREY = (200, 30, 30), (30, 30, 200), (255, 255, 255), (120, 120, 120)


def picture(colour: tuple[int, int, int], background: tuple[int, int, int] = WHITE) -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    image[16:48, 16:48] = colour
    return image


def test_a_product_has_its_own_colour_whatever_stands_behind_it() -> None:
    red, red_on_grey, blue, white = encoders.load("colours").encode_images(
        [picture(RED), picture(RED, GREY), picture(BLUE), picture(WHITE)]
    )
    assert red @ red_on_grey > 0.999
    assert red @ blue < 0.1
    assert white @ red < 0.1  # nothing but background: then all of it counts


def test_vectors_are_of_length_one_and_do_not_depend_on_their_batch() -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8))
    encoder = encoders.load("colours")
    vectors = encoder.encode_images(images)
    assert vectors.shape == (5, encoder.passport("image").dim) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[3:4], encoder.encode_images(images[3:4]))
    assert encoder.encode_images([]).shape == (0, vectors.shape[1])


def test_neighbouring_bins_share_a_colour_between_them() -> None:
    near, far = (picture((200, 30 + step, 30)) for step in (4, 60))
    one, near_it, far_from_it = encoders.load("colours").encode_images([picture(RED), near, far])
    assert one @ near_it > 0.98 > one @ far_from_it


def test_texts_are_refused() -> None:
    with pytest.raises(TypeError, match="colours takes no text"):
        encoders.load("colours").encode_queries(["red"])
