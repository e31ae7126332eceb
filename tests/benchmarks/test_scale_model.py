import pytest

from benchmarks.scale_model import (
    QUANTITIES,
    Assumptions,
    Line,
    check,
    commit_hours,
    decode_hours,
    describe_hours,
    encode_hours,
    ivf_flop,
    line,
    shards,
)


def test_a_line_goes_through_both_points() -> None:
    found = line((10, 120), (30, 160))
    assert (found.fixed, found.per_item) == (100, 2)
    assert found.at(1000) == 2100


def test_a_line_without_a_fixed_part_goes_through_the_larger_point() -> None:
    assert line((10, 10), (20, 30)) == Line(0.0, 1.5)
    assert line((10, 50), (20, 30)) == Line(0.0, 1.5)


def test_prediction_is_compared_with_the_largest_size() -> None:
    def figures(size: int, value: float) -> dict[str, object]:
        found: dict[str, object] = {"size": size, "bytes": {}}
        for path in QUANTITIES.values():
            (found if len(path) == 1 else found["bytes"])[path[-1]] = value  # type: ignore[index]
        return found

    found = check([figures(10, 20), figures(20, 30), figures(100, 121)])
    assert [entry["name"] for entry in found] == list(QUANTITIES)
    assert all(entry["predicted"] == pytest.approx(110) for entry in found)
    assert all(entry["ratio"] == pytest.approx(1.1) for entry in found)
    assert [entry["unit"] for entry in found if entry["name"] == "finding stale rows"] == ["s"]
    assert [entry["unit"] for entry in found if entry["name"] == "peak memory"] == ["bytes"]


def test_hours_of_models() -> None:
    given = Assumptions(gemm=100.0, share=0.5, encoder_flop=10.0, captions_per_s=2.0, decode_per_s=4.0)
    assert encode_hours(3600, given) == pytest.approx(10 / 50)
    assert decode_hours(3600, given) == pytest.approx(1 / 4)
    assert describe_hours(3600, given) == pytest.approx(1 / 2)


def test_an_index_costs_the_square_of_its_rows_and_shards_a_line() -> None:
    train, assign = ivf_flop(4096, 8)
    assert (train, assign) == (2.0 * 256 * 8 * 50, 2.0 * 4096 * 8)
    assert ivf_flop(4 * 4096, 8) == (16 * train, 16 * assign)
    one, two = shards(40_960, 4096, 8, 1e3, 50), shards(81_920, 4096, 8, 1e3, 50)
    assert (one.shards, one.partitions, one.code_bytes) == (10, 1, 2_048_000)
    assert two.build_s == pytest.approx(2 * one.build_s)


def test_commits_grow_as_the_square_where_each_reads_the_table() -> None:
    assert commit_hours(3600, 1, Line(2.0, 0.0)) == pytest.approx(2)
    assert commit_hours(2000, 1, Line(0.0, 1.0)) == pytest.approx(4 * commit_hours(1000, 1, Line(0.0, 1.0)))
