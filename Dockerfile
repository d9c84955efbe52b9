# Two stages: the first compiles, the second holds the program, its certificates and nothing to compile with.
#
#   docker build -t loopers:0.1.0 .
#   docker run --read-only --cap-drop=ALL -p 8080:8080 -v loopers:/data -e OPENAI_API_KEY loopers:0.1.0
#
# Without a config file the defaults hold: the ledger is /data/loopers.db, and the admin listener is on the container's own
# loopback, where `docker exec … loopers keys create …` works as well. docs/OPERATIONS.md has more.

FROM rust:1.95.0-bookworm AS build
# Pingora compiles zlib-ng, which needs cmake.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake=3.25.1-1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY lua ./lua
COPY conf/prices.yaml ./conf/prices.yaml
COPY src ./src
COPY benches ./benches
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin loopers \
    && install -D -m 0755 target/release/loopers out/loopers \
    && mkdir -p out/data

FROM debian:12.12-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="loopers" \
    org.opencontainers.image.description="A reverse proxy in front of LLM providers that enforces a hard dollar cap" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.base.name="docker.io/library/debian:12.12-slim"
# The certificates that providers are checked against, those of the first stage.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Scanners read the versions of all crates from here.
COPY Cargo.lock LICENSE /usr/share/loopers/
COPY --from=build /src/out/loopers /usr/local/bin/loopers
# The only place that is written to, and only with a `file:` ledger.
COPY --from=build --chown=65532:65532 /src/out/data /data
WORKDIR /data
VOLUME ["/data"]
USER 65532:65532
EXPOSE 8080 9090
# Alive, not ready: a container whose ledger is away is not to be restarted. bash opens the port by itself; there is no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["loopers"]
CMD ["serve"]
