"""Read pictures, videos and sound: access rules, fetching, decoding to arrays, and the loaders of worker processes."""
