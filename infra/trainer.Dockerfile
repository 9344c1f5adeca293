# syntax=docker/dockerfile:1.7

# The training container: `moola-trainer s3://<bucket>/runs/<run>/spec.json`. From the repository's root:
#
#   docker build --platform linux/amd64 -f infra/trainer.Dockerfile --target cpu -t moola-trainer:0.1.0-cpu .
#   docker build --platform linux/amd64 -f infra/trainer.Dockerfile --target gpu -t moola-trainer:0.1.0-gpu \
#     --build-arg FEATURES=aws,cuda .
#
# moola-trainer has no feature `cuda` yet: until it does, the gpu image builds with FEATURES=aws only and trains on the
# instance's CPU.

ARG RUST_VERSION=1.95
ARG CUDA_VERSION=12.8.1

FROM rust:${RUST_VERSION}-slim-bookworm AS build
ARG FEATURES=aws
# Which CUDA the bindings are made for; there is no toolkit here to ask. Must fit CUDA_VERSION.
ENV CUDARC_CUDA_VERSION=12080
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=moola-trainer-target,target=/src/target,sharing=locked \
    cargo build --release --locked -p moola-trainer --features "${FEATURES}" \
    && install -D -s target/release/moola-trainer /out/moola-trainer

# On a CPU: the binary, the C library, certificates.
FROM debian:bookworm-slim AS cpu
# Certificates are to be the latest.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/moola-trainer /usr/local/bin/moola-trainer
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/moola-trainer"]

# On a GPU: kernels are compiled at run time by NVRTC, against CUDA's headers. The driver comes from the host.
FROM nvidia/cuda:${CUDA_VERSION}-base-ubuntu24.04 AS gpu
# The names of the packages carry the version of CUDA.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates cuda-cccl-12-8 cuda-crt-12-8 cuda-cudart-dev-12-8 cuda-nvrtc-12-8 \
    && rm -rf /var/lib/apt/lists/* /usr/local/cuda/lib64/*.a
COPY --from=build /out/moola-trainer /usr/local/bin/moola-trainer
ENV CUDA_PATH=/usr/local/cuda \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/moola-trainer"]
