"""One mapper a file: `fit(problem, *, seed, **settings)` and `restore(arrays)`; see `coldstart.recommend.model.Mapper`."""
