# The development container of `repo-cli devshell`: Rust, and what `make deps` installs.
FROM rust:1.95-bookworm AS development
RUN rustup component add rustfmt clippy
COPY scripts/common.sh scripts/install-deps.sh /opt/bucket-streamer/scripts/
RUN bash /opt/bucket-streamer/scripts/install-deps.sh && rm -rf /var/lib/apt/lists/*
WORKDIR /workspace
CMD ["bash"]
