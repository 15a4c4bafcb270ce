# development: what `repo-cli devshell` opens. build: the programs. tools: what fills the bucket of
# docker-compose.yml. production (the last, so what `docker build .` makes): the server.
# `cargo test -p testkit --test containers` compares this file with what the build really needs.

# Rust, and what `make deps` installs.
FROM rust:1.95-bookworm AS development
RUN rustup component add rustfmt clippy
COPY scripts/common.sh scripts/install-deps.sh /opt/bucket-streamer/scripts/
RUN bash /opt/bucket-streamer/scripts/install-deps.sh && rm -rf /var/lib/apt/lists/*
WORKDIR /workspace
CMD ["bash"]

FROM development AS build
COPY . .
# Crates and what is built of them outlive a change of the source.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/workspace/target \
    cargo build --release --locked -p bucket-streamer -p repo-cli -p streaming-cli \
    && install -D -t /out \
        target/release/bucket-streamer target/release/repo-cli target/release/streaming-cli

FROM debian:bookworm-slim AS tools
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl ffmpeg \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/repo-cli /out/streaming-cli /usr/local/bin/
COPY scripts/make-demo-video.sh docker/put-sample.sh /usr/local/bin/
USER 10001:10001
CMD ["put-sample.sh"]

FROM debian:bookworm-slim AS production
# Versions come with the base image's release; a rebuild takes the fixes in it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libavcodec59 libavutil57 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /data
COPY --from=build /out/bucket-streamer /usr/local/bin/
# Where a folder of videos is mounted, if they are not in a bucket.
ENV LOCAL_PATH=/data
# Nothing is written but below --cache-dir, so the root file system may be read-only.
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=6s --start-period=10s CMD ["bucket-streamer", "--health"]
ENTRYPOINT ["bucket-streamer"]
