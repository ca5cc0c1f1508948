# syntax=docker/dockerfile:1
# LLM Router. `docker build -t llm-router .` needs BuildKit, which every current Docker has.

FROM rust:1.95-bookworm AS build
# Pingora compiles OpenSSL and zlib-ng from source.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked --bin llm-router \
    && strip --strip-debug -o /llm-router target/release/llm-router

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 llm-router \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/llm-router --create-home \
        --shell /usr/sbin/nologin llm-router
COPY --from=build /llm-router /usr/local/bin/llm-router
COPY deploy/llm-router.yaml /etc/llm-router/llm-router.yaml

USER 10001:10001
WORKDIR /var/lib/llm-router
# The store, unless it is PostgreSQL, and the journal: keep this folder.
VOLUME /var/lib/llm-router
ENV DATABASE_URL=sqlite:/var/lib/llm-router/llm-router.db
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
# bash can open connections, so no program is added for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /readyz HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["llm-router"]
CMD ["serve", "--config", "/etc/llm-router/llm-router.yaml"]
