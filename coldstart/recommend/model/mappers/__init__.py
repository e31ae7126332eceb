"""Mappers, one a file: each has `fit(problem, *, seed, **settings)` and `restore(arrays)`; see `Mapper` in `model`."""
