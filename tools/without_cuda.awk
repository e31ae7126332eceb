# Print the pins of a lock file but for PyTorch and the CUDA libraries that it brings, with their digests.
/^[A-Za-z0-9]/ { kept = !($0 ~ /^(torch|torchvision|triton)==/ || $0 ~ /^(nvidia|cuda)-/) }
/^#/ { kept = 1 }
kept
