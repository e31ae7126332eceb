# coldstart for CPUs. `docker compose run --rm coldstart --help`, see compose.yaml; docs/install.md says more.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY pyproject.toml requirements-run.lock README.md LICENSE ./
COPY tools/without_cuda.awk tools/
# PyTorch without CUDA, in the pinned release; then everything else by its digest.
RUN python -m venv /opt/coldstart \
    && sed -nE 's/^((torch|torchvision)==[^ ;]+).*/\1/p' requirements-run.lock > torch.txt \
    && /opt/coldstart/bin/pip install --index-url https://download.pytorch.org/whl/cpu -r torch.txt \
    && awk -f tools/without_cuda.awk requirements-run.lock > others.txt \
    && /opt/coldstart/bin/pip install --no-deps --require-hashes -r others.txt
COPY coldstart coldstart
COPY pipelines pipelines
COPY policies policies
COPY prompts prompts
RUN /opt/coldstart/bin/pip install --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
COPY --from=build /opt/coldstart /opt/coldstart
RUN useradd --create-home --uid 1000 coldstart && mkdir /shop /models && chown coldstart /shop /models
ENV PATH=/opt/coldstart/bin:$PATH COLDSTART_MODELS=/models
USER 1000
WORKDIR /shop
VOLUME ["/shop", "/models"]
ENTRYPOINT ["coldstart"]
CMD ["--help"]
